#!/bin/bash
# Installs what the lab needs on Debian or Ubuntu (root). No daemon of it is started on the machine itself.
set -eu
[ "$(id -u)" = 0 ] || { echo "install.sh: must run as root" >&2; exit 1; }
command -v apt-get > /dev/null || { echo "install.sh: only Debian and Ubuntu are known here, there is no apt-get" >&2; exit 1; }
cd "$(dirname "$0")"

# Packages start their daemons unless this file says no; sshd, tgt, ganesha and libvirt would then listen on the machine.
POLICY=/usr/sbin/policy-rc.d
if [ ! -e $POLICY ]; then
    printf '#!/bin/sh\nexit 101\n' > $POLICY
    chmod 755 $POLICY
    trap 'rm -f $POLICY' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends \
    e2fsprogs iproute2 libvirt-clients libvirt-daemon-driver-qemu libvirt-daemon-system mount nfs-ganesha nfs-ganesha-vfs \
    openssh-client openssh-server openssl procps python3 qemu-block-extra qemu-system-x86 qemu-utils rpcbind tgt util-linux
python3 -c 'from qemu_lab import requirements; requirements.check()'
echo "everything the lab needs is installed"
