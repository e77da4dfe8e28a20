"""Video files: decoding, times of frames, and whether a file is whole."""
