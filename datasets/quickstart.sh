#!/bin/sh
# From nothing to an exported model that reads words: draws words, trains, tests, exports, reads.
#   sh datasets/quickstart.sh [FOLDER [WORDS [STEPS]]]
set -eu
folder=${1:-quickstart}
words=${2:-3000}
steps=${3:-300}
here=$(dirname "$0")

python "$here/draw.py" "$folder" --count "$words" --test-count 200 \
    --charset ACDEHILMNOPRSTUW --min-length 2 --max-length 3
aocr dataset "$folder/annotations-training.txt" "$folder/training.tfrecords"
aocr dataset "$folder/annotations-testing.txt" "$folder/testing.tfrecords"
# An input of ceil(250 / 120 * 32) = 67 pixels squeezes the widest words a little, and is quick.
aocr train "$folder/training.tfrecords" --model-dir "$folder/checkpoints" \
    --max-width 250 --max-height 120 --max-prediction 3 --charset auto \
    --batch-size 32 --max-steps "$steps"
aocr test "$folder/testing.tfrecords" --model-dir "$folder/checkpoints" \
    --visualize --output-dir "$folder/pictures" --json "$folder/results.json"
rm -rf "$folder/exported"  # from an earlier run: a version is written only once
aocr export "$folder/exported" --model-dir "$folder/checkpoints" --model-version 1
head -n 5 "$folder/annotations-testing.txt" | cut -d ' ' -f 1 |
    aocr predict --model-dir "$folder/exported" --format tsv
