#!/usr/bin/env bash
# Readies one machine: a search server on the loopback interface and, where there are several machines, Ray.
#
#   bash examples/verl/node.sh KNOWLEDGE_BASE                     # the only machine
#   bash examples/verl/node.sh KNOWLEDGE_BASE head                # the first of several
#   bash examples/verl/node.sh KNOWLEDGE_BASE worker HEAD_ADDRESS # each of the others
#
# Every machine searches its own copy of the knowledge base (or one on a shared disk), so that no query leaves it and
# no address has to be known: verl spreads its agent-loop workers over the machines, and each asks 127.0.0.1.
# The script stays in the foreground with the server; end it and the server ends. `ray stop` ends Ray.
set -euo pipefail
knowledge_base=${1:?the folder of a knowledge base}
role=${2:-alone}

case $role in
  alone) ;;
  head) ray start --head --port=6379 ;;
  worker) ray start --address="${3:?the address of the head}:6379" ;;
  *) echo "node.sh: $role is none of head, worker" >&2; exit 2 ;;
esac

# Batches of all agent-loop workers of a machine arrive at once. A dense or hybrid index is named as everywhere:
# search.engine_type=dense.
exec stepsearch serve-search --knowledge-base "$knowledge_base" --port "${SEARCH_PORT:-8000}" --workers 2
