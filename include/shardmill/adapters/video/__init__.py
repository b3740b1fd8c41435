"""Videos: looked at by PyAV, cut by ffmpeg, every clip proven before it is published; all of it in a sandbox."""
