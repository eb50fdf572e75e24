#!/usr/bin/env bash
# A throw-away Slurm cluster on one machine: two nodes, with accounting or without. Root, Debian or Ubuntu.
#
#   slurm/testcluster.sh up [--no-accounting] [--bind] [FOLDER]   start it; then: export SLURM_CONF=FOLDER/slurm.conf
#   slurm/testcluster.sh status [FOLDER]                          its daemons and nodes
#   slurm/testcluster.sh restart DAEMON [FOLDER]                  start mariadbd, slurmdbd, slurmctld, n1 or n2 again (stopped first)
#   slurm/testcluster.sh down [FOLDER]                            stop it and delete FOLDER
#
# --bind: each node has the machine's cores and no more, and ranks are bound to those that they are given.
#
# Needs: slurm-wlm slurmctld slurmd slurmdbd munge mariadb-server (make system-test installs them).
# Everything lies in FOLDER (default /tmp/testcluster) but the nodes' names: a line in /etc/hosts, and out again.
# A daemon is stopped by the pid that it wrote, never by name, and only if that process belongs to this cluster.
set -euo pipefail

NODES=(n1 n2)
HOSTS=${HOSTS:-/etc/hosts}

fail() { echo "error: $*" >&2; exit 2; }

pid_of() { [ -s "$FOLDER/run/$1.pid" ] && tr -d '[:space:]' < "$FOLDER/run/$1.pid"; }

# Ended but not yet reaped (in a container without an init) is ended.
lives() { [ -e "/proc/$1/status" ] && ! grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null; }

# A pid that a daemon left may be another process's by now.
ours() { tr '\0' '\n' 2>/dev/null < "/proc/$1/environ" | grep -qxF "SLURM_CONF=$SLURM_CONF"; }

alive() { local pid; pid=$(pid_of "$1") && lives "$pid" && ours "$pid"; }

# A daemon must not hold its starter's output open: who reads it would wait for the daemon's end.
quietly() { "$@" >> "$FOLDER/log/starts.log" 2>&1 < /dev/null; }

stop() {
  local pid
  alive "$1" || return 0
  pid=$(pid_of "$1")
  kill "$pid" 2>/dev/null || return 0
  for _ in $(seq 100); do lives "$pid" || return 0; sleep 0.1; done
  kill -9 "$pid" 2>/dev/null || true
}

wait_for() { # SECONDS WHAT COMMAND...
  local seconds=$1 what=$2
  shift 2
  for _ in $(seq $((seconds * 5))); do "$@" >/dev/null 2>&1 && return 0; sleep 0.2; done
  fail "$what did not start within $seconds s; see $FOLDER/log"
}

check() {
  [ "$(id -u)" = 0 ] || fail "the cluster's daemons need root"
  local need="munged slurmctld slurmd sbatch"
  [ "$ACCOUNTING" = 1 ] && need="$need slurmdbd mariadbd mariadb-install-db"
  for program in $need; do
    command -v "$program" >/dev/null ||
      fail "$program: not installed (apt-get install slurm-wlm slurmctld slurmd slurmdbd munge mariadb-server)"
  done
}

# Ports of this cluster's own, so that it stands beside another Slurm or database: a block of ten from the folder's name.
ports() { BASE=$((20000 + $(printf %s "$FOLDER" | cksum | cut -d' ' -f1) % 1000 * 10)); }

# A folder that a cluster made, or began to make.
is_clusters() { [ -d "$FOLDER/log" ] && [ -d "$FOLDER/run" ] && [ -d "$FOLDER/state" ] && \
  { [ ! -e "$FOLDER/slurm.conf" ] || grep -qs ClusterName=testcluster "$FOLDER/slurm.conf"; }; }

# The nodes' names stand in a line for each cluster, so that one that stops takes no other's. The file may be mounted:
# written to, it cannot be replaced.
hosts_lock() { exec 9< "$HOSTS"; flock -w 10 9 || fail "$HOSTS: another process holds its lock"; }

add_hosts() {
  hosts_lock
  grep -qxF "$HOSTS_LINE" "$HOSTS" || {
    # A last line without its end would swallow ours.
    [ -z "$(tail -c 1 "$HOSTS")" ] || echo >> "$HOSTS"
    echo "$HOSTS_LINE" >> "$HOSTS"
  }
  exec 9<&-
}

remove_hosts() {
  hosts_lock
  if grep -qxF "$HOSTS_LINE" "$HOSTS"; then
    local rest
    # The dot keeps the ends of lines that $(...) would take.
    rest=$(grep -vxF "$HOSTS_LINE" "$HOSTS" || true; echo .)
    printf %s "${rest%.}" > "$HOSTS"
  fi
  exec 9<&-
}

write_conf() {
  local cpus memory
  # More than a small machine has, so that several jobs run side by side on it.
  cpus=$(nproc --all)
  [ "$cpus" -ge 8 ] || cpus=8
  # Ranks can be bound to real cores alone.
  [ "$TASKS" = task/none ] || cpus=$(nproc --all)
  memory=$(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
  cat > "$FOLDER/slurm.conf" <<CONF
ClusterName=testcluster
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=$BASE
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$FOLDER/run/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$FOLDER/state
SlurmdSpoolDir=$FOLDER/spool-%n
SlurmctldPidFile=$FOLDER/run/slurmctld.pid
SlurmdPidFile=$FOLDER/run/%n.pid
SlurmctldLogFile=$FOLDER/log/slurmctld.log
SlurmdLogFile=$FOLDER/log/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=$TASKS
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_min_interval=100000
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SlurmdTimeout=10
EnforcePartLimits=ALL
MinJobAge=3600
MaxArraySize=${MAX_ARRAY:-1001}
KillWait=5
JobAcctGatherType=jobacct_gather/linux
CONF
  if [ "$ACCOUNTING" = 1 ]; then
    cat >> "$FOLDER/slurm.conf" <<CONF
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((BASE + 3))
AccountingStoragePass=$FOLDER/run/munge.socket
CONF
    cat > "$FOLDER/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$FOLDER/run/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$((BASE + 3))
SlurmUser=root
PidFile=$FOLDER/run/slurmdbd.pid
LogFile=$FOLDER/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((BASE + 4))
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
CONF
    chmod 600 "$FOLDER/slurmdbd.conf"
  fi
  local i=0
  for node in "${NODES[@]}"; do
    i=$((i + 1))
    echo "NodeName=$node NodeHostname=localhost NodeAddr=127.0.0.1 Port=$((BASE + i)) CPUs=$cpus RealMemory=$memory" \
      >> "$FOLDER/slurm.conf"
  done
  echo "PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP" >> "$FOLDER/slurm.conf"
}

start_munge() {
  chown munge "$FOLDER/run"
  install -o munge -m 400 /dev/null "$FOLDER/munge.key"
  head -c 1024 /dev/urandom > "$FOLDER/munge.key"
  quietly runuser -u munge -- "$(command -v munged)" --key-file="$FOLDER/munge.key" --socket="$FOLDER/run/munge.socket" \
    --pid-file="$FOLDER/run/munged.pid" --log-file="$FOLDER/run/munged.log" --seed-file="$FOLDER/run/munged.seed"
  wait_for 10 munged munge --socket="$FOLDER/run/munge.socket" -n
}

sql() { mariadb --no-defaults --protocol=socket --socket="$FOLDER/db/mysql.sock" -e "$1"; }

start_database() {
  setsid mariadbd --no-defaults --user=mysql --datadir="$FOLDER/db/data" --socket="$FOLDER/db/mysql.sock" \
    --port=$((BASE + 4)) --bind-address=127.0.0.1 --pid-file="$FOLDER/db/mariadbd.pid" --innodb-buffer-pool-size=64M \
    >> "$FOLDER/log/database.log" 2>&1 < /dev/null &
  wait_for 30 mariadbd sql "select 1"
  cp "$FOLDER/db/mariadbd.pid" "$FOLDER/run/mariadbd.pid"
}

start_accounting() {
  install -d -o mysql "$FOLDER/db"
  mariadb-install-db --no-defaults --user=mysql --datadir="$FOLDER/db/data" --skip-test-db > "$FOLDER/log/database.log" 2>&1
  start mariadbd
  sql "create user slurm@'%' identified by 'slurm'; create user slurm@localhost identified by 'slurm';
       grant all on slurm_acct_db.* to slurm@'%'; grant all on slurm_acct_db.* to slurm@localhost"
  start slurmdbd
  sacctmgr -i add cluster testcluster > "$FOLDER/log/sacctmgr.log"
}

start() {
  case $1 in
    mariadbd) start_database ;;
    slurmdbd) quietly slurmdbd && wait_for 30 slurmdbd timeout 5 sacctmgr -n show cluster ;;
    slurmctld) quietly slurmctld -i && wait_for 20 slurmctld timeout 5 scontrol ping ;;
    n1 | n2) quietly slurmd -N "$1" && wait_for 20 "$1" alive "$1" ;;
    *) fail "$1: no such daemon (allowed: mariadbd, slurmdbd, slurmctld, n1, n2)" ;;
  esac
}

up() {
  check
  alive munged && fail "$FOLDER: a cluster is there already (slurm/testcluster.sh down $FOLDER)"
  if [ -e "$FOLDER" ]; then
    # Only what an earlier cluster left is cleared away.
    is_clusters || fail "$FOLDER: exists, and is no test cluster's"
    rm -rf "$FOLDER"
  fi
  mkdir -p "$FOLDER"/{run,log,state}
  chmod 755 "$FOLDER"
  runuser -u munge -- test -x "$FOLDER/run" || { rm -rf "$FOLDER"; fail "$FOLDER: a folder above it is closed to the user munge"; }
  [ ${#FOLDER} -le 80 ] || { rm -rf "$FOLDER"; fail "$FOLDER: too long a path for a socket"; }
  # What half a start leaves behind is taken away again.
  # Its logs stay.
  trap 'status=$?; [ $status = 0 ] || { tail -n 3 "$FOLDER"/log/* >&2; KEEP=1 down; }' EXIT
  add_hosts
  write_conf
  start_munge
  [ "$ACCOUNTING" = 1 ] && start_accounting
  start slurmctld
  for node in "${NODES[@]}"; do start "$node"; done
  wait_for 20 "both nodes" bash -c '[ "$(sinfo -h -N -t idle -o %N | sort -u | wc -l)" = 2 ]'
  echo "export SLURM_CONF=$FOLDER/slurm.conf"
}

# What a node whose daemon was killed still runs: nobody else would end it.
end_orphans() {
  for process in /proc/[0-9]*; do
    if { [ "$(cat "$process/comm" 2>/dev/null)" = slurmstepd ] && [ "$(readlink "$process/cwd")" = "$FOLDER/log" ]; } \
      || tr '\0' '\n' 2>/dev/null < "$process/environ" | grep -cxE "SLURM_CONF=$SLURM_CONF|SLURM_JOB_ID=.*" | grep -qx 2; then
      kill -KILL "${process#/proc/}" 2>/dev/null || true
    fi
  done
}

down() {
  [ ! -e "$FOLDER" ] || is_clusters || fail "$FOLDER: is no test cluster's"
  if [ -e "$FOLDER/slurm.conf" ] && alive slurmctld; then
    scancel --state=PENDING -u root 2>/dev/null || true
    scancel -u root 2>/dev/null || true
    for _ in $(seq 50); do [ -z "$(squeue -h 2>/dev/null)" ] && break; sleep 0.2; done
  fi
  for daemon in "${NODES[@]}" slurmctld slurmdbd mariadbd munged; do stop "$daemon"; done
  end_orphans
  remove_hosts
  [ -n "${KEEP:-}" ] || rm -rf "$FOLDER"
}

status() {
  for daemon in munged mariadbd slurmdbd slurmctld "${NODES[@]}"; do
    if alive "$daemon"; then echo "$daemon: runs (pid $(pid_of "$daemon"))"; else echo "$daemon: does not run"; fi
  done
  if alive slurmctld; then sinfo -N; fi
}

COMMAND=${1:-}
[ $# -gt 0 ] && shift
ACCOUNTING=1
if [ "${1:-}" = --no-accounting ]; then ACCOUNTING=0; shift; fi
TASKS=task/none
if [ "${1:-}" = --bind ]; then TASKS=task/affinity; shift; fi
if [ "$COMMAND" = restart ]; then DAEMON=${1:-}; [ $# -gt 0 ] && shift; fi
FOLDER=$(realpath -m "${1:-/tmp/testcluster}")
export SLURM_CONF=$FOLDER/slurm.conf
HOSTS_LINE="127.0.0.1 ${NODES[*]} # testcluster $FOLDER"
ports

case $COMMAND in
  up) up ;;
  down) down ;;
  status) status ;;
  restart) stop "$DAEMON"; start "$DAEMON" ;;
  *) fail "slurm/testcluster.sh up|down|status|restart (see the head of the file)" ;;
esac
