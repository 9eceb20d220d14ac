#!/bin/sh
# Train once: on the behaviour log given as $1, or on a sample where there is none; the artifact goes to $2,
# a directory or the URL of a bucket.
set -eu

is_there() {
    case "$1" in
    *://*) python -c '
import sys
from models.artifact.stores import is_there
from models.location import location
print(is_there(location(sys.argv[1])))' "$1" ;;
    *) if [ -e "$1" ]; then echo True; else echo False; fi ;;
    esac
}

found=$(is_there "$2/current")
if [ "$found" = True ]; then
    echo "$2/current is there; train again by hand, or remove it" >&2
    exit 0
fi
if [ ! -e "$1" ]; then
    echo "no $1: writing a sample" >&2
    python -m offline.sample --out "$1"
fi
exec python -m offline.train --data-path "$1" --save-dir "$2"
