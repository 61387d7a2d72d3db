#!/bin/sh
# boot.sh COMMAND...: systemd as process 1 of namespaces of its own, the command as one of its units; exits as it does.
# The machine has systemd and util-linux. What the command prints is in /tmp/said.
set -eu
mount -t tmpfs tmpfs /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
group=/sys/fs/cgroup/lab-$(cat /proc/sys/kernel/random/uuid)
mkdir "$group"
echo 0 >"$group/cgroup.procs"
cd /etc/systemd/system
# what is about hardware, other machines and a person at the console
for one in systemd-udevd systemd-journal-flush systemd-networkd systemd-timesyncd systemd-logind systemd-sysctl systemd-binfmt \
  systemd-modules-load getty@tty1 console-getty e2scrub_reap; do
  ln -sf /dev/null "$one.service"
done
cat >lab.service <<END
[Service]
Type=oneshot
Environment=HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ExecStart=$*
StandardOutput=append:/tmp/said
StandardError=append:/tmp/said
ExecStopPost=systemctl exit \$EXIT_STATUS
END
mkdir -p multi-user.target.wants
ln -sf ../lab.service multi-user.target.wants/lab.service
: >/etc/machine-id
code=0
unshare --pid --mount --cgroup --fork --kill-child=KILL --mount-proc sh -euc '
umount /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /run
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=multi-user.target --log-target=console' || code=$?
echo 0 >/sys/fs/cgroup/cgroup.procs
find "$group" -depth -type d -exec rmdir {} +
cat /tmp/said
exit $code
