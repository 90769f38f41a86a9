#!/usr/bin/env bash
# The processes of deploy/cluster: state, start, health, end. Sourced by deploy/cluster.
# shellcheck disable=SC2153  # variables of deploy/cluster

WAIT_SECONDS=${MICRORAPTOR_WAIT:-60}
FRONTENDS=0 WORKERS=0 AGENTS=0
FRONTEND_PORTS=() FRONTEND_MONITORS=() WORKER_MONITORS=()

# lock: one command at a time changes a deployment.
lock() {
  exec 9>"$DIRECTORY/run/cluster.lock"
  flock -w 120 9 || mr_die "another deploy/cluster command is busy with $DIRECTORY"
}

# save: keeps what start and status must know.
save() {
  local file=$DIRECTORY/run/cluster.conf
  {
    printf 'frontends %s\nworkers %s\nagents %s\n' "$FRONTENDS" "$WORKERS" "$AGENTS"
    printf 'frontend_ports %s\n' "${FRONTEND_PORTS[*]}"
    printf 'frontend_monitors %s\n' "${FRONTEND_MONITORS[*]}"
    printf 'worker_monitors %s\n' "${WORKER_MONITORS[*]}"
  } >"$file.new"
  mv "$file.new" "$file"
}

load() {
  local key value
  while read -r key value; do
    case $key in
      frontends) FRONTENDS=$value ;;
      workers) WORKERS=$value ;;
      agents) AGENTS=$value ;;
      frontend_ports) read -ra FRONTEND_PORTS <<<"$value" ;;
      frontend_monitors) read -ra FRONTEND_MONITORS <<<"$value" ;;
      worker_monitors) read -ra WORKER_MONITORS <<<"$value" ;;
    esac
  done <"$DIRECTORY/run/cluster.conf"
}

# names ROLE: the names of the deployment's processes.
names() {
  local count=0 index
  case $1 in
    frontend) count=$FRONTENDS ;;
    worker) count=$WORKERS ;;
    agent) count=$AGENTS ;;
  esac
  for ((index = 1; index <= count; index++)); do printf '%s-%d\n' "$1" "$index"; done
}

# known ROLE: as names, and those with a pid file beyond the count.
known() {
  {
    names "$1"
    find "$DIRECTORY/run" -maxdepth 1 -name "$1-*.pid" -printf '%f\n' | sed 's/\.pid$//'
  } | sort -u -t- -k2n
}

# start_time PID: when the process began, in clock ticks since boot; nothing when it is gone or a zombie.
start_time() {
  local stat fields
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
  # The name in parentheses may hold anything.
  read -ra fields <<<"${stat##*) }"
  [[ ${fields[0]} == [ZX] ]] || printf '%s' "${fields[19]}"
}

# pid_of NAME: prints the pid of a process that runs and is ours; a recycled pid has another start time.
pid_of() {
  local pid start file=$DIRECTORY/run/$1.pid
  [[ -r $file ]] && read -r pid start <"$file" || return 0
  [[ $pid =~ ^[0-9]+$ && -n $start && $(start_time "$pid") == "$start" ]] || return 0
  printf '%s' "$pid"
}

endpoint_of() {
  local index=$((${1##*-} - 1))
  case $1 in
    frontend-*) printf 'https://127.0.0.1:%s/' "${FRONTEND_PORTS[index]}" ;;
    worker-*) printf 'ipc://%s/run/%s.sock' "$DIRECTORY" "$1" ;;
    *) printf '%s/agents/%s' "$DIRECTORY" "$1" ;;
  esac
}

# launch NAME: starts a process unless it runs; in a session of its own, so that Ctrl-C does not reach it.
launch() {
  local name=$1 index=$((${1##*-} - 1)) program pid
  [[ -z $(pid_of "$name") ]] || return 0
  mkdir -p "$DIRECTORY/logs"
  case $name in
    frontend-*)
      program=("$BIN/frontend" --config "$DIRECTORY/frontend.config.yaml" --bind-address 127.0.0.1
        --bind-port "${FRONTEND_PORTS[index]}" --name "$name" --monitoring-port "${FRONTEND_MONITORS[index]}")
      if port_in_use "${FRONTEND_PORTS[index]}"; then
        mr_die "$name: port ${FRONTEND_PORTS[index]} is in use by another program"
      fi
      ;;
    worker-*)
      program=("$BIN/crypto-worker" --config "$DIRECTORY/crypto-worker.config.yaml" --bind "$(endpoint_of "$name")"
        --name "$name" --monitoring-port "${WORKER_MONITORS[index]}")
      ;;
    agent-*)
      mkdir -p "$DIRECTORY/agents/$name"
      program=("$BIN/agent" --config "$DIRECTORY/client.config.yaml"
        --writeback "$DIRECTORY/agents/$name/writeback.yaml" --buffer "$DIRECTORY/agents/$name/buffer.bin" -v)
      ;;
  esac
  (
    cd "$DIRECTORY" || exit
    exec setsid "${program[@]}" </dev/null >>"$DIRECTORY/logs/$name.log" 2>&1 9>&-
  ) &
  pid=$!
  disown "$pid"
  printf '%s %s\n' "$pid" "$(start_time "$pid")" >"$DIRECTORY/run/$name.pid"
}

# healthy NAME: whether it runs and answers its health check; an agent has none, it must have its identity.
healthy() {
  local index=$((${1##*-} - 1))
  [[ -n $(pid_of "$1") ]] || return 1
  case $1 in
    frontend-*) probe "https://127.0.0.1:${FRONTEND_PORTS[index]}/healthz" ;;
    worker-*) probe "http://127.0.0.1:${WORKER_MONITORS[index]}/healthz" ;;
    agent-*) [[ -s $DIRECTORY/agents/$1/writeback.yaml ]] ;;
  esac
}

# settle NAME…: after half a second all of them must still run.
settle() {
  local name
  (($#)) || return 0
  sleep 0.5
  for name in "$@"; do await_healthy "$name" >/dev/null; done
}

# probe URL: 200 within 2 seconds. -k: the TLS leaf is the deployment's own, checked by the agents.
probe() { curl --noproxy '*' -skf --max-time 2 -o /dev/null "$1"; }

# await_healthy NAME: waits, bounded; says why when it does not come up.
await_healthy() {
  local deadline=$((SECONDS + WAIT_SECONDS))
  until healthy "$1"; do
    if [[ -z $(pid_of "$1") ]]; then
      last_lines "$1"
      mr_die "$1 ended by itself (log: $DIRECTORY/logs/$1.log)"
    fi
    if ((SECONDS >= deadline)); then
      last_lines "$1"
      mr_die "$1 did not become healthy within $WAIT_SECONDS s (log: $DIRECTORY/logs/$1.log)"
    fi
    sleep 0.1
  done
  printf '    %-12s %s\n' "$1" "$(endpoint_of "$1")"
}

last_lines() {
  printf '%s\n' "--- last lines of $1 ---" >&2
  tail -n 20 "$DIRECTORY/logs/$1.log" >&2 2>/dev/null || true
  printf '%s\n' '---' >&2
}

# signal NAME SIGNAL: sends it if the process runs.
signal() {
  local pid
  pid=$(pid_of "$1")
  if [[ -n $pid ]]; then kill "-$2" "$pid" 2>/dev/null || true; fi
}

# await_end NAME: waits, bounded, for the end of a process that was told to stop; then uses SIGKILL and fails.
await_end() {
  local deadline=$((SECONDS + WAIT_SECONDS)) status=0
  while [[ -n $(pid_of "$1") ]]; do
    if ((SECONDS >= deadline)); then
      mr_warn "$1 did not stop within $WAIT_SECONDS s and was killed"
      last_lines "$1"
      signal "$1" KILL
      status=1
      deadline=$((SECONDS + WAIT_SECONDS))
    fi
    sleep 0.05
  done
  rm -f "$DIRECTORY/run/$1.pid"
  return "$status"
}

# status: a table, or with --json one array.
status() {
  local role name pid health separator=''
  if [[ -n $JSON ]]; then printf '['; else printf '%-12s %-10s %-8s %-8s %s\n' NAME ROLE PID HEALTHY ENDPOINT; fi
  for role in worker frontend agent; do
    for name in $(known "$role"); do
      pid=$(pid_of "$name")
      if healthy "$name"; then health=true; else health=false; fi
      if [[ -n $JSON ]]; then
        printf '%s\n  {"name": "%s", "role": "%s", "pid": %s, "endpoint": "%s", "healthy": %s}' \
          "$separator" "$name" "$role" "${pid:-null}" "$(json "$(endpoint_of "$name")")" "$health"
        separator=,
      else
        printf '%-12s %-10s %-8s %-8s %s\n' "$name" "$role" "${pid:--}" "$health" "$(endpoint_of "$name")"
      fi
    done
  done
  if [[ -n $JSON ]]; then printf '\n]\n'; fi
}

# json TEXT: escaped for a JSON string.
json() {
  local text=${1//\\/\\\\}
  printf '%s' "${text//\"/\\\"}"
}
