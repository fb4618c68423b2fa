#!/bin/bash
# private_machine.sh COMMAND... - run COMMAND where libvirt can be started and spoilt without anybody noticing:
# PID 1 of a machine of its own with a private /run, /etc/libvirt, /var/lib/libvirt and an unreachable network.
# Call it as root by: unshare --mount --net --pid --uts --ipc --fork --mount-proc private_machine.sh COMMAND...
set -eu
mount --make-rprivate /
private=$(mktemp -d)
mount -t tmpfs -o mode=755,size=256m tmpfs "$private"
for folder in /etc/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do
    [ -d "$folder" ] || continue
    mkdir -p "$private$folder"
    cp -a "$folder/." "$private$folder/"
    chown --reference="$folder" "$private$folder"
    chmod --reference="$folder" "$private$folder"
    mount --bind "$private$folder" "$folder"
done
rm -f /etc/libvirt/qemu/networks/autostart/* # a bridge and a DHCP server have no place in a test
mount -t tmpfs -o mode=755 tmpfs /run
if [ -c /dev/kvm ]; then # as a machine without udev has it
    cp -a /dev/kvm /run/kvm
    chown root:root /run/kvm
    chmod 600 /run/kvm
    mount --bind /run/kvm /dev/kvm
fi
mkdir -m 1777 /run/lock # of consoles
mkdir /run/cgroup # /sys as the private network has it: bridges of the real machine are not there
mount --rbind /sys/fs/cgroup /run/cgroup
mount -t sysfs sysfs /sys
mount --rbind /run/cgroup /sys/fs/cgroup
ip link set lo up
status=0
"$@" || status=$? # no exec: somebody must be PID 1 and bury QEMU's orphans
umount "$private" 2>/dev/null || umount -l "$private"
rmdir "$private"
exit "$status"
