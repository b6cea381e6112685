# The guest's first process, once its root is mounted: makes it like a Debian that has booted,
# runs /payload/run, and tells its exit code.
exec </dev/null
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc none /proc
mount -t sysfs none /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts none /dev/pts
mount -t tmpfs none /dev/shm
mount -t tmpfs none /run
mount -t tmpfs none /tmp
mount -t cgroup2 none /sys/fs/cgroup
mount -t securityfs none /sys/kernel/security
mount -t tracefs none /sys/kernel/tracing
mount -t bpf none /sys/fs/bpf
ip link set lo up
hostname guest
# Without udev nothing makes its device, and without systemd nothing lends the controller.
modprobe tun
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
stty -F /dev/ttyS1 raw
echo "guest: $(uname -r) after $(cut -d' ' -f1 /proc/uptime) s" >/dev/ttyS1
# Through a pipe, for programs write other things to what they take for a terminal.
{
    sh /payload/run 2>&1
    printf '\nguest: exit code %d\n' $?
} | cat >/dev/ttyS1
# With -no-reboot that ends the machine; the port is written out first.
sleep 0.2
echo b >/proc/sysrq-trigger
sleep 60
