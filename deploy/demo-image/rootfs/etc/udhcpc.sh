#!/bin/sh
# udhcpc's script: puts the lease on the NIC.
case $1 in
deconfig) ip addr flush dev "$interface" ;;
bound | renew)
    ip addr flush dev "$interface"
    ip addr add "$ip/${mask:-24}" dev "$interface"
    for GATEWAY in $router; do ip route add default via "$GATEWAY" dev "$interface"; done
    for SERVER in $dns; do echo "nameserver $SERVER"; done > /etc/resolv.conf
    echo "openqrm-demo: $interface has $ip" > /dev/console
    ;;
esac
exit 0
