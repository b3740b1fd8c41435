#!/usr/bin/env bash
# What the well-known pipeline runs for each sample, in a folder that holds its files: bash THIS FFMPEG FILTERS
set -euo pipefail

# Stands in for ffprobe, which no wheel has: the same build opens the file and looks at its streams in the same way.
"$1" -hide_banner -nostdin -i sample.mp4 2>sample.mp4.json || true
"$1" -v error -nostdin -i sample.mp4 \
  -vf "$2" -c:a copy -f segment -segment_time 2 -reset_timestamps 1 -segment_format_options movflags=+faststart \
  sample-%06d.mp4
for clip in sample-*.mp4; do
  cp sample.mp4.json "${clip%.mp4}.mp4.json"
  cp sample.info.json "${clip%.mp4}.info.json"
done
