"""From videos to shards: decoding, optical flow and camera-compensated flow, quantised, encoded and written."""
