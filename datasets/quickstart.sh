#!/bin/sh
# From nothing to an exported model that reads words: draws words, trains, tests, exports, reads.
#   sh datasets/quickstart.sh [FOLDER [WORDS [STEPS]]]
set -eu
folder=${1:-quickstart}
words=${2:-4000}
steps=${3:-400}
here=$(dirname "$0")

python "$here/draw.py" "$folder" --count "$words" --test-count 200 --max-length 4
aocr dataset "$folder/annotations-training.txt" "$folder/training.tfrecords"
aocr dataset "$folder/annotations-testing.txt" "$folder/testing.tfrecords"
aocr train "$folder/training.tfrecords" --model-dir "$folder/checkpoints" \
    --max-width 300 --max-height 60 --batch-size 32 --max-steps "$steps"
aocr test "$folder/testing.tfrecords" --model-dir "$folder/checkpoints" \
    --visualize --output-dir "$folder/pictures" --json "$folder/results.json"
aocr export "$folder/exported" --model-dir "$folder/checkpoints" --model-version 1
aocr predict --model-dir "$folder/exported" --format tsv "$here/images"
