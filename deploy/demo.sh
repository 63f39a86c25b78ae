#!/usr/bin/env bash
# Text to vectors to neighbours, on one machine. `make demo` calls this after it has set up the environment:
#   CORPUS  glob of text files; empty for the documentation strings of the installed Python packages
#   WORK    folder for everything that is made
set -euo pipefail

PYTHON=${PYTHON:-python3}
WORK=${WORK:-work}
CORPUS=${CORPUS:-}
EPOCHS=5
words=(array thread integer dictionary matrix json)

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

if [ -z "$CORPUS" ]; then
  say "1. corpus: documentation strings of the Python packages installed here"
  mkdir -p "$WORK"
  [ -d "$WORK/corpus" ] || "$PYTHON" -m pipeline.demo_corpus "$WORK/corpus"
  CORPUS="$WORK/corpus/*.txt.gz"
  name=demo
else
  say "1. corpus: $CORPUS"
  name=own
  words=()  # the trainer picks some of the vocabulary
fi

say "2. pipeline: text to pairs"
"$PYTHON" -m pipeline --input "$CORPUS" --output "$WORK/$name/dataset" --passes "$EPOCHS"

say "3. trainer: pairs to vectors"
"$PYTHON" -m trainer train --data "$WORK/$name/dataset" --model "$WORK/$name/model" --epochs "$EPOCHS" --overwrite

say "4. neighbours"
"$PYTHON" -m trainer neighbors --model "$WORK/$name/model" --top 5 ${words[@]+"${words[@]}"}

printf '\nMore: %s -m trainer neighbors --model %s WORD …\n' "$PYTHON" "$WORK/$name/model"
