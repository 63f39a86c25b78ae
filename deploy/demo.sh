#!/usr/bin/env bash
# Text to vectors to neighbours, on one machine. `make demo` calls this after it has set up the environment:
#   CORPUS  glob of text files; empty for the documentation strings of the installed Python packages
#   WORK    folder for everything that is made
set -euo pipefail

PYTHON=${PYTHON:-python3}
WORK=${WORK:-work}
CORPUS=${CORPUS:-}
words=(array thread integer dictionary matrix json)

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

if [ -z "$CORPUS" ]; then
  say "1. corpus: documentation strings of the Python packages installed here"
  if [ ! -d "$WORK/corpus" ]; then  # made aside first: an interrupted demo leaves no half corpus
    rm -rf "$WORK/corpus.tmp"
    mkdir -p "$WORK"
    "$PYTHON" "$(dirname "$0")/demo_corpus.py" "$WORK/corpus.tmp"
    mv "$WORK/corpus.tmp" "$WORK/corpus"
  fi
  CORPUS="$WORK/corpus/*.txt.gz"
  name=demo
  min_count=20  # rare names make poor neighbours in a small corpus
else
  say "1. corpus: $CORPUS"
  name=own
  min_count=5
  words=()  # the trainer picks some of the vocabulary
fi

# A small corpus needs more epochs before its vectors say much; of a large one, five are plenty.
# shellcheck disable=SC2086  # the glob is meant to expand
bytes=$(cat $CORPUS 2>/dev/null | wc -c)
EPOCHS=$([ "$bytes" -lt 20000000 ] && echo 15 || echo 5)

say "2. pipeline: text to pairs"
rm -rf "$WORK/$name/dataset"  # each run would add one
"$PYTHON" -m pipeline --input "$CORPUS" --output "$WORK/$name/dataset" --passes "$EPOCHS" \
  --min-count "$min_count" --report "$WORK/$name/corpus.html"

say "3. trainer: pairs to vectors"
"$PYTHON" -m trainer train --data "$WORK/$name/dataset" --model "$WORK/$name/model" --epochs "$EPOCHS" --overwrite

say "4. neighbours"
"$PYTHON" -m trainer neighbors --model "$WORK/$name/model" --top 5 ${words[@]+"${words[@]}"} \
  </dev/null  # without words it would ask for some at a terminal

say "5. a page to look at"
list=$(IFS=,; echo "${words[*]-}")
"$PYTHON" -m trainer report --model "$WORK/$name/model" ${list:+--words "$list"} --to "$WORK/$name/report.html"

printf '\nMore: %s -m pairstream neighbors --model %s WORD …\n' "$PYTHON" "$WORK/$name/model"
