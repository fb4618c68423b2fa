#!/bin/bash
# Starts the storage servers inside the storage host; its values come from storage.py through the environment.
# Data lies in /lab/local and survives a power cut of the host.
set -eu
cd /lab/local

target() { # NUMBER IQN MIB
    [ -f "lun$1.raw" ] || truncate -s "$3M" "lun$1.raw"
    tgtadm --lld iscsi --op new --mode target --tid "$1" -T "$2"
    tgtadm --lld iscsi --op new --mode logicalunit --tid "$1" --lun 1 -b "/lab/local/lun$1.raw"
    tgtadm --lld iscsi --op bind --mode target --tid "$1" -I ALL
}

mkdir -p /run/tgtd
tgtd --iscsi portal=0.0.0.0:3260
until tgtadm --lld iscsi --op show --mode target > /dev/null 2>&1; do sleep 0.05; done
target 1 "$STORAGE_PLAIN_IQN" "$STORAGE_PLAIN_MIB"
target 2 "$STORAGE_CHAP_IQN" "$STORAGE_CHAP_MIB"
tgtadm --lld iscsi --op new --mode account --user "$STORAGE_CHAP_USER" --password "$STORAGE_CHAP_PASSWORD"
tgtadm --lld iscsi --op bind --mode account --tid 2 --user "$STORAGE_CHAP_USER"

[ -f nbd.qcow2 ] || qemu-img create -q -f qcow2 nbd.qcow2 "${STORAGE_NBD_MIB}M"
qemu-nbd --fork --persistent --shared=16 --format=qcow2 --bind=0.0.0.0 --port="$STORAGE_NBD_PORT" \
    --export-name="$STORAGE_NBD_NAME" --pid-file=/run/qemu-nbd.pid nbd.qcow2

mkdir -p "$STORAGE_NFS_DIRECTORY" /run/ganesha /var/lib/nfs/ganesha /var/log/ganesha /etc/ganesha
chmod 777 "$STORAGE_NFS_DIRECTORY"
rpcbind
# A long grace period after a restart would only make tests wait.
cat > /etc/ganesha/ganesha.conf << END
NFS_CORE_PARAM { Bind_addr = 0.0.0.0; NFS_Protocols = 3,4; MNT_Port = 20048; NLM_Port = 32803; Rquota_Port = 875; Enable_UDP = false; }
NFSv4 { Grace_Period = 3; Lease_Lifetime = 5; Graceless = true; }
EXPORT {
    Export_Id = 1; Path = $STORAGE_NFS_DIRECTORY; Pseudo = $STORAGE_NFS_PSEUDO; Access_Type = RW; Squash = No_root_squash;
    SecType = sys; Protocols = 3,4; Transports = TCP; FSAL { Name = VFS; }
}
LOG { Default_Log_Level = WARN; }
END
ganesha.nfsd -f /etc/ganesha/ganesha.conf -L /var/log/ganesha.log -p /run/ganesha.pid
for _ in $(seq 100); do
    # ganesha registers with rpcbind when it is ready to serve
    rpcinfo -p 127.0.0.1 | grep -q ' nfs$' && exit 0
    sleep 0.1
done
echo "ganesha did not come up, see /var/log/ganesha.log" >&2
exit 1
