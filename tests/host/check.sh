#!/bin/bash
# check.sh FOLDER — `callgate install --systemd` with the programs of FOLDER, under a real systemd: what an operator is
# told in deploy/README.md holds, from the first command to the last. Says each thing that it saw; fails at the first
# that is otherwise.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

inside() { "$HERE/systemd.sh" exec "$@"; }
# By systemd-run: a process that only entered the namespaces is in no cgroup of theirs, and is turned away.
callgate() { inside systemd-run --quiet --wait --pipe callgate "$@"; }
# workload NAME SCRIPT — a unit; its output. What it calls waits until it is enrolled.
# A minute is enough for each.
workload() {
  inside systemd-run --quiet --wait --pipe --unit="$1" --property=RuntimeMaxSec=60 \
    --property="${3:-CapabilityBoundingSet=}" bash -c "$2" 2>&1
}

fail() {
  echo "check: $*" >&2
  inside journalctl --no-pager --output=cat --unit=callgate-agent --unit=callgate-collector | tail -n 20 >&2 || true
  exit 1
}

# until_ready — the agent answers and says so.
until_ready() {
  local end=$((SECONDS + 60))
  until callgate status 2>/dev/null | grep -q '^ready *yes'; do
    [ "$SECONDS" -lt "$end" ] || fail "the agent is not ready within 60 s"
    sleep 0.2
  done
}

# expect WHAT TEXT PATTERN
expect() {
  grep -qE "$3" <<<"$2" || fail "$1: no \`$3\` in: $2"
  echo "ok: $1"
}

AUDIT=(--collector unix:/run/callgate-collector/collector.sock)
# A unit knows that it is enrolled by the first refusal.
ENROLLED='for try in $(seq 100); do curl -s -m 5 http://web.test:8088/denied | grep -q refused_by_callgate && break; sleep 0.1; done'

trap '"$HERE/systemd.sh" stop' EXIT
"$HERE/systemd.sh" start "$1"

inside mkdir /tmp/www
inside tee /tmp/www/page >/dev/null <<<hello
inside tee /tmp/www/person >/dev/null <<<'ann@example.org'
inside systemd-run --quiet --unit=web python3 -m http.server 8088 --directory /tmp/www
inside bash -c 'for try in $(seq 600); do curl -s -o /dev/null http://web.test:8088/ && exit; sleep 0.1; done; exit 1' ||
  fail "the service does not answer"

expect "a dry run writes nothing" "$(callgate install --systemd --collector --dry-run | grep -c '^would')-$(inside find /etc -name '*callgate*' | wc -l)" '^[0-9]+-0$'
callgate install --systemd --collector | sed 's/^/    /'
expect "a second time there is nothing to do" "$(callgate install --systemd --collector)" 'everything was there already'
said=$(inside bash -c 'echo "# mine" >> /etc/systemd/system/callgate-agent.service; callgate install --systemd 2>&1; echo $?; callgate install --systemd --force; echo $?')
expect "an edited unit is replaced by --force alone" "$(grep -xE '[0-9]' <<<"$said" | paste -sd,)" '^1,0$'
expect "the printed configuration is the installed one" "$(inside bash -c 'callgate-collector --print-config | grep -c "^listen"; diff <(callgate-agent --print-config) /etc/callgate/agent.toml')" '^> collector = "unix:/run/callgate-collector/collector.sock"$'
expect "before anything is enrolled, a unit is untouched" "$(workload shop 'curl -s http://web.test:8088/person')" '^ann@example.org$'

inside tee /etc/callgate/agent.toml >/dev/null <<'END'
collector = "unix:/run/callgate-collector/collector.sock"
metrics_listen = "127.0.0.1:9464"
[[enroll]]
unit = "shop.service"
[[service]]
name = "web.test"
addresses = ["127.0.0.1"]
END
inside tee /etc/callgate/policies/shop.cedar >/dev/null <<'END'
permit (principal, action == Callgate::Action::"connect", resource in Callgate::Service::"web.test");
@mask("email")
permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"web.test")
when { resource.method == "GET" && ["/page", "/person"].contains(resource.path) };
END
callgate install --systemd --collector --now
until_ready
expect "nothing is wrong with what the sandbox leaves" "$(callgate status | grep -c '^alarm' || true)" '^0$'

inside bash -c 'echo "metrics_listen = \"127.0.0.1:9465\"" >> /etc/callgate/collector.toml; systemctl restart callgate-collector'
for port in 9464 9465; do
  expect "readyz and healthz of port $port" "$(inside curl -s --retry 20 --retry-connrefused --retry-delay 1 "http://127.0.0.1:$port/readyz" "http://127.0.0.1:$port/healthz" | paste -sd,)" '^ready,alive$'
done

said=$(workload shop "$ENROLLED; curl -s http://web.test:8088/page; curl -s http://web.test:8088/person; curl -s -d x=y http://web.test:8088/page")
expect "a permitted call of an enrolled unit" "$said" '^hello$'
expect "what it answers is masked" "$said" '^\[masked:email\]$'
expect "another is denied" "$said" 'refused_by_callgate.*no_permit'
expect "a neighbour is left alone" "$(workload other 'curl -s http://web.test:8088/person')" '^ann@example.org$'
# 8088 is 1F98 in hexadecimal.
server="python3 -m http.server 8088 --directory /tmp/www >/dev/null 2>&1 & until grep -q :1F98 /proc/net/tcp /proc/net/tcp6; do sleep 0.1; done"
said=$(workload shop "$server; $ENROLLED; curl -s http://web.test:8088/page; curl -s http://web.test:8088/other" PrivateNetwork=yes)
expect "a permitted call in a network namespace of its own" "$said" '^hello$'
expect "another is denied there" "$said" 'refused_by_callgate.*no_permit'
said=$(workload shop "$ENROLLED; python3 -c 'import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)'; echo ended by \$?" CapabilityBoundingSet=CAP_NET_RAW)
expect "a packet socket is ended" "$said" '^ended by 137$'
said=$(workload shop "$ENROLLED; callgate status; echo \$?; callgate audit search ${AUDIT[*]}; echo \$?")
expect "an enrolled unit reaches neither the agent nor the collector" "$(grep -xE '[0-9]+' <<<"$said" | paste -sd,)" '^1,1$'
said=$(callgate audit search "${AUDIT[@]}" --json)
expect "the calls are in the record, with the unit" "$said" 'unit/shop'

inside bash -c 'kill -KILL "$(systemctl show --property=MainPID --value callgate-agent)"'
until_ready
expect "a killed agent is back" "$(inside systemctl show --property=NRestarts callgate-agent)" '=1$'
inside systemd-run --quiet --unit=shop --property=CapabilityBoundingSet= bash -c "$ENROLLED; touch /tmp/enrolled; until [ -e /tmp/stopped ]; do sleep 0.1; done; curl -sS -m 5 http://web.test:8088/page > /tmp/said 2>&1; echo \$? > /tmp/code"
inside bash -c 'for try in $(seq 600); do [ -e /tmp/enrolled ] && exit; sleep 0.1; done; exit 1' || fail "shop was not enrolled"
inside systemctl stop callgate-agent
inside touch /tmp/stopped
expect "without an agent a neighbour goes on" "$(workload other 'curl -s http://web.test:8088/person')" '^ann@example.org$'
inside bash -c 'for try in $(seq 600); do [ -s /tmp/code ] && exit; sleep 0.1; done; exit 1' || fail "shop did not end"
expect "a stopped agent leaves enforcement on" "$(inside cat /tmp/code)" '^7$'
inside systemctl start callgate-agent
until_ready
expect "the record is whole" "$(callgate audit verify "${AUDIT[@]}")" '^whole'
status=$(callgate status --json)
expect "status tells what systemd started" "$(inside python3 -c 'import json,sys; s=json.loads(sys.argv[1]); print(s["ready"], s["uplink"]["state"], s["policy"]["sources"], s["faults"], s["cluster"])' "$status")" "^True connected \['/etc/callgate/policies'\] \[\] None$"

callgate uninstall | sed 's/^/    /'
left='ls -d /sys/fs/bpf/callgate /run/callgate /etc/systemd/system/callgate* /etc/systemd/system/*/callgate* /etc/sysusers.d/callgate* /etc/tmpfiles.d/callgate* 2>/dev/null'
expect "after uninstall nothing of it is left to run" "left: $(inside bash -c "$left; systemctl list-units --all --no-legend 'callgate*'")" '^left: $'
expect "records and configuration are" "$(inside bash -c 'ls /etc/callgate /var/lib/callgate-collector/store | wc -l')" '^[1-9]'
expect "a unit that was enrolled is free" "$(workload shop 'curl -s http://web.test:8088/person')" '^ann@example.org$'
callgate install --systemd --collector >/dev/null
callgate uninstall --purge >/dev/null
expect "after a purge nothing is left at all" "left: $(inside bash -c "$left; find /etc /var /run -name '*callgate*' -not -path '/run/systemd/*' -not -path '/var/log/*'; grep callgate- /etc/passwd")" '^left: $'
