#!/bin/sh
# Called by busybox uevent for each kernel event with its variables in the environment: hot-plugged CPUs and memory are brought
# online here, NICs get an address.
case $ACTION:$SUBSYSTEM in
add:cpu)
    sleep 0.2 # the kernel announces the CPU before it can be switched on
    echo 1 > "/sys$DEVPATH/online"
    ;;
add:memory) echo online_movable > "/sys$DEVPATH/state" ;;
add:net)
    ip link set lo up
    case $INTERFACE in eth*) exec /etc/nic add "$INTERFACE" < /dev/null > /dev/null & ;; esac
    ;;
remove:net) /etc/nic remove "$INTERFACE" ;;
add:block) [ "$DEVTYPE" = disk ] && echo "openqrm-demo: new disk $DEVNAME" > /dev/console ;;
remove:block) [ "$DEVTYPE" = disk ] && echo "openqrm-demo: disk $DEVNAME gone" > /dev/console ;;
esac 2>/dev/null
