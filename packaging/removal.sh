# Warns which units need the program before it is removed. The removal is not refused: a unit without its program cannot start,
# so it cannot run without the lock, and a running unit keeps the program until it is stopped.
program='^[[:space:]]*(Exec[[:alpha:]]+=[[:space:]]*[-@:+!|]*|([^#;[:space:]](.*[^[:alnum:]_./])?)?(/usr)?/bin/)etcd-await-election([^[:alnum:]_@./-]|$)'
running() {
  [ ! -d /run/systemd/system ] || systemctl list-units --plain --no-legend \
    --state=active,activating,deactivating,reloading "$1" | cut -d ' ' -f 1
}
needed=
# Folders that do not exist are ignored.
for file in $(grep -RslE --include='*.service' --include='*.conf' --exclude-dir='*.wants' --exclude-dir='*.requires' \
  "$program" /etc/systemd/system /etc/systemd/system.control /run/systemd/system /run/systemd/system.control \
  /run/systemd/transient /run/systemd/generator /usr/local/lib/systemd/system /usr/lib/systemd/system || :); do
  case $file in
    */etcd-await-election@.service) continue ;;
    *.conf) unit=$(basename "$(dirname "$file")" .d) ;;
    *) unit=$(basename "$file") ;;
  esac
  state='not running'
  case $unit in
    *@.service)
      instances=$(running "$(basename "$unit" .service)*.service")
      if [ -n "$instances" ]; then state="running: $(echo $instances)"; fi
      ;;
    *) if [ -d /run/systemd/system ] && systemctl --quiet is-active "$unit"; then state=running; fi ;;
  esac
  needed="$needed
  $unit ($state): $file"
done
if [ -n "$needed" ]; then
  cat >&2 <<END
etcd-await-election: warning: these units start the program that is being removed:$needed
A unit that runs keeps the old program and its leadership until it ends or is stopped, and hands over then. After that it
cannot start on this host (status=203/EXEC) until the package is installed again. To take it out of use on this host:
  systemctl disable --now UNIT
To run it without an election, delete its drop-ins, gate.conf too, on one host only, as the service then runs on every host
where it is started:
  systemctl daemon-reload && systemctl restart UNIT
END
fi
enabled=
for link in /etc/systemd/system/*.wants/etcd-await-election@*.service; do
  if [ -L "$link" ]; then enabled="$enabled $(basename "$link")"; fi
done
if [ -n "$enabled" ]; then
  cat >&2 <<END
etcd-await-election: warning: these instances stay enabled, and start again when the package is installed again and the host boots:
 $enabled
To prevent that, delete their links in /etc/systemd/system, as systemctl disable does while the package is installed
END
fi
instances=$(running 'etcd-await-election@*.service')
if [ -n "$instances" ]; then
  echo "etcd-await-election: stopping these instances, which hand over:" $instances >&2
fi
