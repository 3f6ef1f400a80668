# Completion of tqctl for bash, generated: tqctl completion bash

_tqctl_node() {
  case "$path" in
    "")
      subs="up down status submit task queue dlq handler worker coordinator db doctor health config context completion version"
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --version -V --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="" ;;
    "up")
      subs=""
      opts="--allow-shell --no-allow-shell --app --color --concurrency --context -c --detach --drain --fields --grace --help --lease --no-input --output -o --processes --queues --quiet -q --verbose -v --workers --yes -y"
      takes=" --app --color --concurrency --context -c --drain --fields --grace --lease --output -o --processes --queues --workers "
      arg="" ;;
    "down")
      subs=""
      opts="--color --context -c --delete-data --fields --force --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="" ;;
    "status")
      subs=""
      opts="--color --context -c --fields --follow -f --help --interval --lines --logs --no-input --output -o --quiet -q --verbose -v --watch -w --yes -y"
      takes=" --color --context -c --fields --interval --lines --output -o "
      arg="" ;;
    "submit")
      subs=""
      opts="--at --batch --block --color --context -c --correlation-id --delay --dry-run -n --durability --expires --fields --help --idempotency-key --max-retries --no-input --output -o --param -p --payload --priority --queue --quiet -q --resume --tag --tenant --timeout --unchecked --unique-for --verbose -v --wait --wait-timeout --yes -y"
      takes=" --at --batch --block --color --context -c --correlation-id --delay --durability --expires --fields --idempotency-key --max-retries --output -o --param -p --payload --priority --queue --resume --tag --tenant --timeout --unique-for --wait-timeout "
      arg="handlers" ;;
    "task")
      subs="list show result logs wait cancel retry"
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="" ;;
    "task list")
      subs=""
      opts="--color --context -c --fields --handler --help --interval --limit --no-input --output -o --queue --quiet -q --since --sort --state --tag --tenant --until --verbose -v --watch -w --yes -y"
      takes=" --color --context -c --fields --handler --interval --limit --output -o --queue --since --sort --state --tag --tenant --until "
      arg="" ;;
    "task show")
      subs=""
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="tasks" ;;
    "task result")
      subs=""
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="tasks" ;;
    "task logs")
      subs=""
      opts="--attempt --color --context -c --fields --follow -f --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --attempt --color --context -c --fields --output -o "
      arg="tasks" ;;
    "task wait")
      subs=""
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --wait-timeout --yes -y"
      takes=" --color --context -c --fields --output -o --wait-timeout "
      arg="tasks" ;;
    "task cancel")
      subs=""
      opts="--all --color --context -c --dry-run -n --fields --handler --help --no-input --output -o --queue --quiet -q --reason --since --state --tag --tenant --until --verbose -v --yes -y"
      takes=" --color --context -c --fields --handler --output -o --queue --reason --since --state --tag --tenant --until "
      arg="tasks" ;;
    "task retry")
      subs=""
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="tasks" ;;
    "queue")
      subs="list show pause resume purge"
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="" ;;
    "queue list")
      subs=""
      opts="--color --context -c --fields --help --interval --no-input --output -o --quiet -q --verbose -v --watch -w --yes -y"
      takes=" --color --context -c --fields --interval --output -o "
      arg="" ;;
    "queue show")
      subs=""
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="queues" ;;
    "queue pause")
      subs=""
      opts="--color --context -c --fields --for --help --no-input --output -o --quiet -q --reason --verbose -v --yes -y"
      takes=" --color --context -c --fields --for --output -o --reason "
      arg="queues" ;;
    "queue resume")
      subs=""
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="queues" ;;
    "queue purge")
      subs=""
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="queues" ;;
    "dlq")
      subs="list show requeue discard"
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="" ;;
    "dlq list")
      subs=""
      opts="--all --color --context -c --error --fields --handler --help --limit --no-input --output -o --queue --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --error --fields --handler --limit --output -o --queue "
      arg="" ;;
    "dlq show")
      subs=""
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="" ;;
    "dlq requeue")
      subs=""
      opts="--all --color --context -c --error --fields --handler --help --no-input --output -o --queue --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --error --fields --handler --output -o --queue "
      arg="" ;;
    "dlq discard")
      subs=""
      opts="--all --color --context -c --error --fields --handler --help --no-input --output -o --queue --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --error --fields --handler --output -o --queue "
      arg="" ;;
    "handler")
      subs="list show"
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="" ;;
    "handler list")
      subs=""
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="" ;;
    "handler show")
      subs=""
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="handlers" ;;
    "worker")
      subs="start list show"
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="" ;;
    "worker start")
      subs=""
      opts="--allow-shell --no-allow-shell --app --color --concurrency --context -c --drain --fields --grace --help --lease --name --no-input --output -o --processes --queues --quiet -q --verbose -v --yes -y"
      takes=" --app --color --concurrency --context -c --drain --fields --grace --lease --name --output -o --processes --queues "
      arg="" ;;
    "worker list")
      subs=""
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="" ;;
    "worker show")
      subs=""
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="workers" ;;
    "coordinator")
      subs="start status"
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="" ;;
    "coordinator start")
      subs=""
      opts="--color --context -c --fields --help --name --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --name --output -o "
      arg="" ;;
    "coordinator status")
      subs=""
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="" ;;
    "db")
      subs="upgrade"
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="" ;;
    "db upgrade")
      subs=""
      opts="--color --context -c --dry-run -n --fields --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="" ;;
    "doctor")
      subs=""
      opts="--color --context -c --dry-run -n --fields --help --no-input --output -o --problems --quiet -q --repair --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="" ;;
    "health")
      subs="list history probe"
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="" ;;
    "health list")
      subs=""
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="" ;;
    "health history")
      subs=""
      opts="--check --color --context -c --events --fields --help --limit --no-input --output -o --quiet -q --since --verbose -v --yes -y"
      takes=" --check --color --context -c --fields --limit --output -o --since "
      arg="" ;;
    "health probe")
      subs=""
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --ready --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="" ;;
    "config")
      subs="show path"
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="" ;;
    "config show")
      subs=""
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="" ;;
    "config path")
      subs=""
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="" ;;
    "context")
      subs="list show"
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="" ;;
    "context list")
      subs=""
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="" ;;
    "context show")
      subs=""
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="contexts" ;;
    "completion")
      subs=""
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="=bash zsh fish" ;;
    "version")
      subs=""
      opts="--color --context -c --fields --help --no-input --output -o --quiet -q --verbose -v --yes -y"
      takes=" --color --context -c --fields --output -o "
      arg="" ;;
  esac
}

_tqctl_values() {
  case "$1" in
    -o|--output) kind="=table wide json jsonl csv name" ;;
    --color) kind="=auto always never" ;;
    -c|--context) kind="contexts" ;;
    --queue) kind="queues" ;;
    --queues) kind="queues" ;;
    --handler) kind="handlers" ;;
    --state) kind="=scheduled waiting queued running retrying succeeded dead cancelled expired pending completed failed" ;;
    --priority) kind="=low normal high critical" ;;
    --durability) kind="=accepted recorded" ;;
    --check) kind="=files disk broker server-version persistence eviction-policy memory record migrations pairing coordinator recorder-lag quarantine workers clock versions" ;;
    --log-format) kind="=text json" ;;
    --log-level) kind="=debug info warning error" ;;
    --payload) kind="FILE" ;;
    --batch) kind="FILE" ;;
    --home) kind="FILE" ;;
    --app) kind="FILE" ;;
    *) kind="" ;;
  esac
}

_tqctl_live() {
  TQCTL_CONTEXT="${context:-$TQCTL_CONTEXT}" tqctl __complete "$1" "$2" 2>/dev/null
}

_tqctl_offer() {
  case "$1" in
    =*) COMPREPLY=($(compgen -W "${1#=}" -- "$cur")) ;;
    FILE) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur")) ;;
    "") COMPREPLY=() ;;
    *) COMPREPLY=($(compgen -W "$(_tqctl_live "$1" "$cur")" -- "$cur")) ;;
  esac
}

_tqctl() {
  local IFS=$' \t\n' cur="${COMP_WORDS[COMP_CWORD]}" path="" subs opts takes arg kind context="" word previous="" i
  [[ "$cur" == "=" ]] && cur=""
  _tqctl_node
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="${COMP_WORDS[i]}"
    if [[ "$word" == "--" ]]; then COMPREPLY=(); return; fi
    if [[ "$word" == "=" ]]; then continue; fi
    if [[ -n "$previous" ]]; then
      [[ "$previous" == "-c" || "$previous" == "--context" ]] && context="$word"
      previous=""
    elif [[ "$takes" == *" $word "* ]]; then
      previous="$word"
    elif [[ " $subs " == *" $word "* ]]; then
      path="${path:+$path }$word"
      _tqctl_node
    fi
  done
  if [[ -n "$previous" ]]; then
    _tqctl_values "$previous"
    _tqctl_offer "$kind"
  elif [[ "$cur" == -* ]]; then
    COMPREPLY=($(compgen -W "$opts" -- "$cur"))
  elif [[ -n "$subs" ]]; then
    COMPREPLY=($(compgen -W "$subs" -- "$cur"))
  else
    _tqctl_offer "$arg"
  fi
}

complete -F _tqctl tqctl
