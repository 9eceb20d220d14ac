#!/bin/sh
# Train once: on the behaviour log given as $1, or on a sample where there is none; the artifact goes to $2.
set -eu

if [ -e "$2/current" ]; then
    echo "$2/current is there; train again by hand, or remove the volume" >&2
    exit 0
fi
if [ ! -e "$1" ]; then
    echo "no $1: writing a sample" >&2
    python -m offline.sample --out "$1"
fi
exec python -m offline.train --data-path "$1" --save-dir "$2"
