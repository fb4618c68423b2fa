#!/bin/bash
# hostinit.sh NAME ROLE - becomes process 1 of a host, already inside its own net, mount, pid, uts, ipc and cgroup namespaces.
# Gives it a root of its own (an overlay: the machine's root below, HOST/upper above), starts its daemons and reaps processes.
# Environment: LAB_HOST (the host's folder), LAB_SHARED, LAB_CODE (this folder), LAB_CGROUPS (see cgroups.py), LAB_SUBMOUNTS, LAB_KVM.
set -eu
NAME=$1
ROLE=$2
ROOT=$LAB_HOST/root
exec < /dev/null >> "$LAB_HOST/init.log" 2>&1
hostname "$NAME"
mount --make-rprivate /

# --- root file system
overlay() { # PATH-ON-THE-MACHINE NAME-OF-THE-LAYER
    mkdir -p "$LAB_HOST/upper/$2" "$LAB_HOST/upper/$2.work"
    mount -t overlay -o "lowerdir=$1,upperdir=$LAB_HOST/upper/$2,workdir=$LAB_HOST/upper/$2.work" "lab-$NAME" "$ROOT$1"
}
overlay / root
for SUBMOUNT in $LAB_SUBMOUNTS; do # where the machine has /usr, /var, ... on file systems of their own
    overlay "$SUBMOUNT" "sub${SUBMOUNT//\//-}"
done
mount -t proc proc "$ROOT/proc"
mount -t sysfs sysfs "$ROOT/sys"
mount -t tmpfs -o mode=755 tmpfs "$ROOT/run"
mount -t tmpfs -o mode=1777 tmpfs "$ROOT/tmp"
mkdir -p "$ROOT/run/lock" "$ROOT/run/sshd" "$ROOT/run/lab"

# --- devices: none of the machine's disks
mount -t tmpfs -o mode=755 tmpfs "$ROOT/dev"
mkdir "$ROOT/dev/pts" "$ROOT/dev/shm" "$ROOT/dev/net"
for NODE in null zero full random urandom tty net/tun $LAB_KVM; do
    cp -a "/dev/$NODE" "$ROOT/dev/$NODE"
done
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts "$ROOT/dev/pts"
ln -s pts/ptmx "$ROOT/dev/ptmx"
mount -t tmpfs -o mode=1777 tmpfs "$ROOT/dev/shm"
ln -s /proc/self/fd "$ROOT/dev/fd"
for STREAM in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${STREAM%:*}" "$ROOT/dev/${STREAM#*:}"; done

# --- cgroups: the host sees its own as the root
read -r VERSION TREES <<< "$LAB_CGROUPS"
if [ "$VERSION" = v2 ]; then
    mount -t cgroup2 cgroup2 "$ROOT/sys/fs/cgroup"
    echo 0 > "$ROOT/sys/fs/cgroup/init/cgroup.procs"
    # libvirt hands controllers on to its guests. That is refused until our launcher, too, has left this group.
    for CONTROLLER in $(cat "$ROOT/sys/fs/cgroup/cgroup.controllers"); do
        for _ in $(seq 50); do
            echo "+$CONTROLLER" 2> /dev/null > "$ROOT/sys/fs/cgroup/cgroup.subtree_control" && break
            sleep 0.05
        done
    done
else
    mount -t tmpfs -o mode=755 tmpfs "$ROOT/sys/fs/cgroup"
    for TREE in $TREES; do
        mkdir "$ROOT/sys/fs/cgroup/$TREE"
        mount -t cgroup -o "$TREE" cgroup "$ROOT/sys/fs/cgroup/$TREE"
        case $TREE in
        *,*) for PART in ${TREE//,/ }; do ln -s "$TREE" "$ROOT/sys/fs/cgroup/$PART"; done ;;
        esac
    done
fi

# --- disks: /lab/shared is the same on all hosts, /lab/local is this host's own; both survive a power cut
mkdir -p "$ROOT/lab/shared" "$ROOT/lab/local" "$ROOT/lab/code"
mount --bind "$LAB_SHARED" "$ROOT/lab/shared"
mount --bind "$LAB_HOST/disk" "$ROOT/lab/local"
mount --bind "$LAB_CODE" "$ROOT/lab/code"
mount -o remount,bind,ro "$ROOT/lab/code"

cd "$ROOT"
mkdir -p oldroot
pivot_root . oldroot
umount -l /oldroot
rmdir /oldroot
cd /
export HOME=/root

# --- daemons. From here on nothing may end this process, or the host is gone.
set +e
/usr/sbin/sshd -f /etc/ssh/lab_sshd_config -E /var/log/sshd.log
case $ROLE in
hypervisor)
    /usr/sbin/virtlogd -d
    /usr/sbin/libvirtd -d --listen
    ;;
storage) /bin/bash /lab/code/storage.sh ;;
esac
echo $? > /run/lab/started

trap 'exit 0' TERM
while :; do
    # bash collects every orphan of the host while it waits
    sleep infinity &
    wait $!
done
