#!/bin/busybox sh
# /dev/vda is the root, /dev/vdb the modules, /dev/vdc the payload.
set -e
/bin/busybox --install -s /bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
for module in /modules/*.ko; do
    insmod "$module"
done
mount -t ext4 -o ro /dev/vda /lower
mount -t tmpfs -o size=80% none /upper
mkdir /upper/files /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work none /root
mkdir -p /root/usr/lib/modules
mount -t ext4 -o ro /dev/vdb /root/usr/lib/modules
mkdir -p /root/payload
mount -t ext4 -o ro /dev/vdc /root/payload
mount --move /dev /root/dev
umount /proc /sys
exec switch_root /root /bin/sh /payload/init
