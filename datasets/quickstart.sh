#!/bin/sh
# Draws words, trains a model on them, tests and exports it, and reads images with the exported model.
#   sh datasets/quickstart.sh [DIRECTORY [WORDS [STEPS]]]
set -eu
directory=${1:-quickstart}
words=${2:-3000}
steps=${3:-100}
here=$(dirname "$0")

python "$here/draw.py" "$directory" --count "$words" --test-count 200 \
    --charset ACDEHILMNOPRSTUW --min-length 2 --max-length 3
aocr dataset "$directory/annotations-training.txt" "$directory/training.tfrecords"
aocr dataset "$directory/annotations-testing.txt" "$directory/testing.tfrecords"
# An input of ceil(250 / 120 * 32) = 67 pixels squeezes the widest words a little, and is fast.
aocr train "$directory/training.tfrecords" --model-dir "$directory/checkpoints" \
    --max-width 250 --max-height 120 --max-prediction 3 --charset auto \
    --batch-size 32 --max-steps "$steps" --schedule cosine
aocr test "$directory/testing.tfrecords" --model-dir "$directory/checkpoints" \
    --visualize --output-dir "$directory/pictures" --json "$directory/results.json"
rm -rf "$directory/exported"  # from an earlier run: a version is written only once
aocr export "$directory/exported" --model-dir "$directory/checkpoints" --model-version 1
head -n 5 "$directory/annotations-testing.txt" | cut -d ' ' -f 1 |
    aocr predict --model-dir "$directory/exported" --format tsv
