# Sourced by bin/cassandra: one node, its configuration, its process, what its log says.
# shellcheck shell=bash disable=SC2154 # $dir, $net, $nodes and the options of start are its

address() { printf '%s.%s' "$net" "$1"; }
node_dir() { printf '%s/node%s' "$dir" "$1"; }
log_of() { printf '%s/node%s/log/system.log' "$dir" "$1"; }
accepts() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; } # ADDRESS PORT

# The process of a node: only one whose command line names this very folder is ever signalled.
node_pid() { # NODE: prints the pid; fails if it does not run
  local pid
  pid="$(cat "$(node_dir "$1")/pid" 2>/dev/null)" || return 1
  [[ $pid =~ ^[0-9]+$ ]] || return 1
  grep -qzxF -- "-Dcassandra.storagedir=$(node_dir "$1")" "/proc/$pid/cmdline" 2>/dev/null || return 1
  printf '%s' "$pid"
}

signal_node() { # SIGNAL NODE: fails if it does not run
  local pid
  pid="$(node_pid "$2")" && kill -s "$1" "$pid"
}

end_node() { # NODE SIGNAL: returns when it is gone; after 15 s it is killed
  local since=$SECONDS
  signal_node "$2" "$1" || return 0
  while node_pid "$1" >/dev/null; do
    ((SECONDS - since < 15)) || signal_node KILL "$1" || true
    sleep 0.05
  done
}

url() { printf 'file://%s' "${1// /%20}"; }

write_config() { # NODE
  local at steps=(0 0 9223372036854775807 6148914691236517205)
  at="$(node_dir "$1")"
  mkdir -p "$at/log" "$at/tmp"
  {
    cat "$assets/cassandra.yaml"
    cat <<END

cluster_name: "feedsme $net"
listen_address: $(address "$1")
rpc_address: $(address "$1")
initial_token: "$((-9000000000000000000 + ($1 - 1) * steps[nodes]))"
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [{seeds: $(address 1)}]
commitlog_sync: $commitlog
END
    case $commitlog in
    periodic) echo "commitlog_sync_period: 10000ms" ;;
    group) echo "commitlog_sync_group_window: 5ms" ;;
    esac
    if [[ $auth == yes ]]; then
      cat <<'END'
authenticator: PasswordAuthenticator
authorizer: CassandraAuthorizer
role_manager: CassandraRoleManager
roles_validity: 500ms
permissions_validity: 500ms
credentials_validity: 500ms
END
    fi
    if [[ $tls == yes ]]; then
      cat <<END
client_encryption_options:
  enabled: true
  optional: false
  keystore: "$dir/tls/node.p12"
  keystore_password: cassandra
  store_type: PKCS12
  require_client_auth: false
END
    fi
  } >"$at/cassandra.yaml"
}

launch() { # NODE: returns when its process is there
  local at options pid
  at="$(node_dir "$1")"
  if [[ -e $at/log/system.log ]]; then
    mv "$at/log/system.log" "$at/log/before.$(date +%s.%N).log"
  fi
  mapfile -t options < <(grep -v '^#' "$assets/jvm.options")
  options+=("-Xms$heap" "-Xmx$heap" "-Dcassandra.config=$(url "$at/cassandra.yaml")" "-Dcassandra.storagedir=$at"
    "-Dlogback.configurationFile=$(url "$assets/logback.xml")" "-Dcassandra.logdir=$at/log" "-Djna.tmpdir=$at/tmp"
    "-Djava.io.tmpdir=$at/tmp")
  if [[ $jit == quick ]]; then options+=(-XX:TieredStopAtLevel=1); fi
  if [[ $schema == fast ]]; then options+=(-Dcassandra.test.flush_local_schema_changes=false); fi
  if [[ $auth == yes ]]; then
    # The first password waits until the other nodes are there; hashing is cheap, for it guards nothing.
    options+=("-Dcassandra.system_auth.default_rf=$nodes" -Dcassandra.superuser_setup_delay_ms=500
      -Dcassandra.auth_bcrypt_gensalt_log2_rounds=4)
  else
    options+=(-Dcassandra.superuser_setup_delay_ms=0)
  fi
  setsid "$java" "${options[@]}" -cp "$lib/*" org.apache.cassandra.service.CassandraDaemon \
    </dev/null >"$at/log/output.log" 2>&1 9>&- &
  pid=$!
  echo "$pid" >"$at/pid"
  # Between fork and exec it is still this script.
  while ! node_pid "$1" >/dev/null && kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
  disown "$pid" 2>/dev/null || true
}

# Is the last thing that node FROM logged about node ABOUT, after its first SKIP lines, that it is up?
sees() { # FROM ABOUT [SKIP]
  local last
  last="$(tail -n "+$((${3:-0} + 1))" "$(log_of "$1")" 2>/dev/null |
    grep -F "InetAddress /$(address "$2"):7000 is now " | tail -n 1)" || true
  [[ $last == *"is now UP"* ]]
}

lines_of() { cat "$(log_of "$1")" 2>/dev/null | wc -l; }

give_up() { # NODE WHY
  say "bin/cassandra: node $1 ($(address "$1")) $2; the end of its log:"
  # A stack alone says little: first what was thrown.
  cat "$(node_dir "$1")/log/output.log" "$(log_of "$1")" 2>/dev/null |
    grep -E '^ERROR|^Caused by|Exception|OutOfMemory|^Error' | tail -n 5 >&2 || true
  say "..."
  tail -n 12 "$(log_of "$1")" >&2 2>/dev/null || true
  say "All of it: $(node_dir "$1")/log"
  exit 1
}

await() { # NODE WHAT COMMAND...: until COMMAND succeeds, while the node runs; 120 s
  local node="$1" what="$2" since=$SECONDS
  shift 2
  until "$@"; do
    node_pid "$node" >/dev/null || give_up "$node" "ended before $what"
    ((SECONDS - since < 120)) || give_up "$node" "runs, but not so far that $what, after 120 s"
    sleep 0.1
  done
}
