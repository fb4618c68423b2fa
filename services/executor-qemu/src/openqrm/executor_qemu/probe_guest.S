# The probe guest: a boot sector that does in half a second what any kernel does when it starts, and says how far it got
# on the first serial port: R (real mode), L (long mode, paging on), T at each timer interrupt, and D instead of T once
# it has also done some work at a bearable speed. Its bytes are in acceleration.py; made with
#   as --64 -o probe.o probe_guest.S && ld -m elf_x86_64 -Ttext 0x7c00 -e 0x7c00 --oformat binary -o probe.bin probe.o
    .code16
    .org 0
start:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $0x7c00, %sp
    ljmp $0, $real
real:
    movb $0, 0x8000
    movb $'R', %al
    movw $0x3f8, %dx
    outb %al, %dx
    # page tables at 0x10000: PML4, 0x11000: PDPT, 0x12000: PD with one 2 MiB page
    movw $0x1000, %ax
    movw %ax, %es
    xorw %di, %di
    xorw %ax, %ax
    movw $0x1800, %cx
    rep stosw
    movl $0x11003, %es:0x0
    movl $0x12003, %es:0x1000
    movl $0x83, %es:0x2000
    # IDT at 0x9000: one gate for vector 0x20, zero elsewhere
    xorw %ax, %ax
    movw %ax, %es
    movw $0x9000, %di
    movw $0x108, %cx
    rep stosw
    movw $tick, 0x9200
    movw $0x08, 0x9202
    movw $0x8e00, 0x9204
    # PIC: vectors from 0x20, only IRQ 0; PIT channel 0 at about 100 Hz
    movb $0x11, %al
    outb %al, $0x20
    outb %al, $0xa0
    movb $0x20, %al
    outb %al, $0x21
    movb $0x28, %al
    outb %al, $0xa1
    movb $4, %al
    outb %al, $0x21
    movb $2, %al
    outb %al, $0xa1
    movb $1, %al
    outb %al, $0x21
    outb %al, $0xa1
    movb $0xfe, %al
    outb %al, $0x21
    movb $0xff, %al
    outb %al, $0xa1
    movb $0x34, %al
    outb %al, $0x43
    movb $0x9c, %al
    outb %al, $0x40
    movb $0x2e, %al
    outb %al, $0x40
    # A20
    inb $0x92, %al
    orb $2, %al
    andb $0xfe, %al
    outb %al, $0x92
    lgdtl gdtr
    lidtl idtr
    movl $0x20, %eax
    movl %eax, %cr4
    movl $0x10000, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl $0x80000001, %eax
    movl %eax, %cr0
    ljmpl $0x08, $long
    .code64
long:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %ss
    movl $0x7c00, %esp
    movb $'L', %al
    movw $0x3f8, %dx
    outb %al, %dx
    sti
    # Work: some paravirtual KVMs interpret each instruction of such a guest, a thousand times too slowly to boot anything
    movl $100000000, %ecx
2:  decl %ecx
    jnz 2b
    movb $1, 0x8000
1:  hlt
    jmp 1b
tick:
    pushq %rax
    pushq %rdx
    movb $'T', %al
    cmpb $1, 0x8000
    jne 3f
    movb $'D', %al
3:  movw $0x3f8, %dx
    outb %al, %dx
    movb $0x20, %al
    outb %al, $0x20
    popq %rdx
    popq %rax
    iretq
    .align 8
gdt: .quad 0, 0x00209a0000000000, 0x0000920000000000
gdtr: .word 23
    .long gdt
idtr: .word 0x20f
    .long 0x9000
    .org 510
    .word 0xaa55
