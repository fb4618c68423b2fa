#!/bin/bash
# libvirtd.sh FOLDER NAME - a libvirtd of its own, in its own network, mount, host name and process namespaces: nothing of the machine's
# is touched.
# Its socket is FOLDER/run/libvirt-sock; FOLDER/disks is seen inside and outside. Ends, with every guest, when it is killed.
set -eu
FOLDER=$1
NAME=$2
hostname "$NAME"
mount --make-rprivate /
for DIRECTORY in /run /var/lib/libvirt /var/log/libvirt /var/cache/libvirt /etc/libvirt; do
    mkdir -p "$DIRECTORY"
    mount -t tmpfs tmpfs "$DIRECTORY"
done
mkdir -p "$FOLDER/run" "$FOLDER/disks" /etc/libvirt/qemu /run/libvirt /run/lock
cat > /etc/libvirt/qemu.conf << 'CONF'
security_driver = "none"
user = "root"
group = "root"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
CONF
cat > /etc/libvirt/libvirtd.conf << CONF
unix_sock_dir = "$FOLDER/run"
auth_unix_ro = "none"
auth_unix_rw = "none"
host_uuid = "$(cat /proc/sys/kernel/random/uuid)"
CONF
ip link set lo up
for BRIDGE in br0 br1; do
    [ -e "/proc/sys/net/ipv4/conf/$BRIDGE" ] || ip link add "$BRIDGE" type bridge
    ip link set "$BRIDGE" up
done
while :; do
    rm -f "$FOLDER/libvirtd.pid"
    libvirtd --pid-file "$FOLDER/libvirtd.pid" 2>> "$FOLDER/libvirtd.log" || true
    while [ -e "$FOLDER/down" ]; do sleep 0.05; done
done
