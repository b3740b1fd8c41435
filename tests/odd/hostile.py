"""Files that were made to do harm: to read other files, to reach other hosts, to fill memory, disk or time."""

from __future__ import annotations

import struct

from odd.boxes import alias_to, box, changed, full, nested, put, reference_movie, url_to
from odd.damaged import ABSENT, DAMAGED, NO_FRAMES, NOT_A_VIDEO, given, patched
from odd.ebml import film
from odd.good import HEARD, LAVFI, WITH_SOUND, WITHOUT_SOUND, X264, plain, scene, tone
from odd.pictures import black
from odd.rows import Becomes, Canary, Kitchen, Make, Odd, Refused

UNSUPPORTED = Refused("unsupported")
SCRIPTS = "playlists, manifests and scripts are not on the list of formats"


def names(text: str) -> Make:
    """Write a text with the canary's file, video and addresses filled in."""

    def make(kitchen: Kitchen) -> bytes:
        return filled(text, kitchen.canary).encode()

    return make


def filled(text: str, canary: Canary) -> str:
    http = f"http://127.0.0.1:{canary.tcp}"
    return text.format(file=canary.file, video=canary.video, http=http, tcp=canary.tcp, udp=canary.udp)


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{video}\n#EXTINF:2,\nfile://{file}\n"
SDP = (
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {udp} RTP/AVP 96\na=rtpmap:96 H264/90000\n"
)
MPD = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT2S">'
    '<BaseURL>{http}/</BaseURL><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">'
    '<BaseURL>{video}</BaseURL><SegmentList><SegmentURL media="{http}/s.mp4"/></SegmentList></Representation>'
    "</AdaptationSet></Period></MPD>"
)
ASS = (
    "[Script Info]\nScriptType: v4.00+\n[V4+ Styles]\nFormat: Name, Fontname\nStyle: Default,{file}\n"
    "[Events]\nFormat: Layer, Start, End, Style, Text\nDialogue: 0,0:00:00.00,0:00:03.00,Default,{{\\fn{file}}}hello\n"
)
SRT = '1\n00:00:00,100 --> 00:00:02,000\n<img src="{http}/i.png"><font face="{file}">{video}</font>\n'


def dref(make_dref: str) -> Make:
    """Point the picture's data at another file."""

    def make(kitchen: Kitchen) -> bytes:
        reference = {"alias": alias_to(str(kitchen.canary.video)), "path": url_to(f"file://{kitchen.canary.video}"),
                     "http": url_to(f"http://127.0.0.1:{kitchen.canary.tcp}/x.mov")}[make_dref]  # fmt: skip
        content = kitchen.ffmpeg(*scene(), *X264, suffix="mov")
        return changed(content, b"dref", lambda inner: reference)

    return make


def reference(address: str) -> Make:
    return lambda kitchen: reference_movie(filled(address, kitchen.canary))


def with_subtitles(codec: str, text: str, suffix: str = "mkv") -> Make:
    def make(kitchen: Kitchen) -> bytes:
        words = kitchen.path("ass" if codec == "ass" else "srt", filled(text, kitchen.canary).encode())
        maps = ("-map", "0", "-map", "1", "-map", "2")
        return kitchen.ffmpeg(*scene(), *tone(), "-i", words, *maps, *X264, "-c:s", codec, suffix=suffix)

    return make


def with_attachments(kitchen: Kitchen) -> bytes:
    playlist = kitchen.path("m3u8", filled(HLS, kitchen.canary).encode())
    kinds = (
        "-metadata:s:t:0",
        "mimetype=application/x-truetype-font",
        "-metadata:s:t:0",
        "filename=../../../etc/x.ttf",
    )
    return kitchen.ffmpeg(*HEARD, "-attach", playlist, *kinds, suffix="mkv")


def playlist_inside(form: str) -> Make:
    """Put a playlist where a container keeps its data."""

    def make(kitchen: Kitchen) -> bytes:
        text = filled(HLS, kitchen.canary).encode()
        if form == "mov":
            return put(kitchen.ffmpeg(*scene(), *X264, suffix="mov"), b"mdat", 0, text)
        content = kitchen.ffmpeg(*scene(), "-c:v", "mpeg4", suffix="avi")
        start = content.index(b"movi") + 12
        return content[:start] + text + content[start + len(text) :]

    return make


def told_otherwise(width: int, height: int) -> Make:
    """Show a whole PNG of other sizes than its mov tells: 64×48."""

    def make(kitchen: Kitchen) -> bytes:
        content = kitchen.ffmpeg(*LAVFI, "testsrc2=s=64x48", "-frames:v", "1", "-c:v", "png", suffix="mov")
        picture, end = black(width, height), content.index(b"moov") - 4
        start = content.index(b"\x89PNG")
        moov = put(content[end:], b"stsz", 4, struct.pack(">I", len(picture)))
        moov = put(moov, b"stco", 8, struct.pack(">I", start))
        mdat = content.index(b"mdat")
        return content[: mdat - 4] + box(b"mdat", content[mdat + 4 : start] + picture) + moov

    return make


def tells_sizes(width: int, height: int) -> Make:
    """Tell great sizes in the container; the stream is small."""
    return lambda kitchen: changed(
        kitchen.ffmpeg(*scene(), "-c:v", "mjpeg", suffix="mov"),
        b"stsd",
        lambda inner: inner[:40] + struct.pack(">HH", width, height) + inner[44:],
    )


def silence(seconds: int) -> tuple[str, ...]:
    return (*LAVFI, f"anullsrc=r=8000:cl=mono:d={seconds}")


def hours_of_silence(kitchen: Kitchen) -> bytes:
    codecs = ("-vf", "trim=end_frame=1", "-c:v", "libx264", "-c:a", "flac")
    return kitchen.ffmpeg(*scene(), *silence(3 * 3600), *codecs, suffix="mkv")


def many_channels(kitchen: Kitchen) -> bytes:
    noise = kitchen.path("raw", bytes(range(256)) * 4 * 3000)
    return kitchen.ffmpeg(
        *scene(), "-f", "s16le", "-ar", "8000", "-ac", "64", "-i", noise, *X264, "-c:a", "pcm_s16le", suffix="mkv"
    )


def vp8_frames(kitchen: Kitchen) -> list[bytes]:
    import av

    source = kitchen.path("ivf", kitchen.ffmpeg(*scene(rate="2", seconds=2), "-c:v", "libvpx", "-g", "1", suffix="ivf"))
    with av.open(str(source)) as container:
        return [bytes(packet) for packet in container.demux() if packet.size]


def timed(*times: int, scale: int = 1_000_000, duration: float | None = None) -> Make:
    """Give a VP8 film its times in ticks."""

    def make(kitchen: Kitchen) -> bytes:
        frames = list(zip(times, vp8_frames(kitchen), strict=False))
        return film(frames, codec="V_VP8", size=(64, 48), scale=scale, duration=duration)

    return make


def extradata(codec: str, size: int) -> Make:
    def make(kitchen: Kitchen) -> bytes:
        frames = list(zip((0, 500, 1000), vp8_frames(kitchen), strict=False))
        return film(frames, codec=codec, size=(64, 48), private=b"\x01\x64\x00\x0a\xff\xff" + b"\xff" * size)

    return make


def claims_gigabytes(kitchen: Kitchen) -> bytes:
    """Let a private element claim 1 TiB."""
    content = film([(0, vp8_frames(kitchen)[0])], codec="V_VP8", size=(64, 48), private=b"\0" * 64)
    place = content.index(b"\x63\xa2") + 2
    return content[:place] + (0x01 << 56 | 1 << 40).to_bytes(8, "big") + content[place + 8 :]


def endless_box(kitchen: Kitchen) -> bytes:
    """Put a box of size 1 (64 bits) that claims to be nearly 2^63 long before moov."""
    content = plain(kitchen)
    moov = content.index(b"moov") - 4
    return content[:moov] + struct.pack(">I4sQ", 1, b"free", 2**63 - 16) + content[moov:]


PLAYLISTS = {
    "hls": Odd("an HLS playlist that names files", names(HLS + "#EXT-X-ENDLIST\n"), NOT_A_VIDEO, SCRIPTS),
    "hls-http": Odd("an HLS playlist that names a host", names(
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{http}/x.ts\n#EXT-X-ENDLIST\n"), NOT_A_VIDEO, SCRIPTS),
    "hls-key": Odd("an HLS playlist whose key lies elsewhere",
                   names('#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{http}/k"\n#EXTINF:2,\n{video}\n'), NOT_A_VIDEO,
                   SCRIPTS),
    "hls-concat": Odd("an HLS playlist that glues a file to a URL",
                      names("#EXTM3U\n#EXTINF:2,\nconcat:{http}/?|subfile,,start,0,end,64,,:{file}\n"), NOT_A_VIDEO,
                      SCRIPTS),
    "dash": Odd("a DASH manifest", names(MPD), NOT_A_VIDEO, SCRIPTS),
    "concat": Odd("a concat script", names("ffconcat version 1.0\nfile {video}\nfile {file}\n"), NOT_A_VIDEO, SCRIPTS),
    "sdp": Odd("an SDP file that names a UDP port", names(SDP), NOT_A_VIDEO, SCRIPTS),
    "ass": Odd("ASS subtitles whose font is a path", names(ASS), NOT_A_VIDEO, SCRIPTS),
    "microdvd": Odd("MicroDVD subtitles that name a file", names("{{1}}{{1}}25\n{{1}}{{75}}{{f:{file}}}x\n"),
                    NOT_A_VIDEO, SCRIPTS),
    "ffmetadata": Odd("an ffmetadata file", names(";FFMETADATA1\ntitle={file}\n"), NOT_A_VIDEO, SCRIPTS),
    "img%03d": Odd("a PNG whose name is a pattern", given(black(64, 48)), NOT_A_VIDEO, "it is stored under a number"),
    "xbin": Odd("XBIN, a text screen", given(b"XBIN\x1a\x50\0\x19\0\x10\0" + b"A\x07" * 2000), NOT_A_VIDEO, SCRIPTS),
    "ansi": Odd("a text with terminal colours", given(b"\x1b[31mred\x1b[0m\n" * 100), NOT_A_VIDEO, SCRIPTS),
    "dref-alias": Odd("a mov whose data is another file, by alias", dref("alias"), NO_FRAMES,
                      "no data reference is followed", "mov"),
    "dref-path": Odd("a mov whose data is another file, by path", dref("path"), WITHOUT_SOUND,
                     "no data reference is followed: its own bytes are read", "mov"),
    "dref-http": Odd("a mov whose data is at a URL", dref("http"), WITHOUT_SOUND,
                     "no data reference is followed: its own bytes are read", "mov"),
    "reference-http": Odd("a QuickTime reference movie to a URL", reference("{http}/x.mov"), ABSENT,
                          "no reference is followed", "mov"),
    "reference-file": Odd("a QuickTime reference movie to a file", reference("file://{video}"), ABSENT,
                          "no reference is followed", "mov"),
    "playlist-in-mov": Odd("a playlist as the data of a mov", playlist_inside("mov"), DAMAGED, "it is no H.264", "mov"),
    "playlist-in-avi": Odd("a playlist in the data of an avi", playlist_inside("avi"), DAMAGED, "it is no MPEG-4",
                           "avi"),
    "attachments": Odd("an mkv with a playlist as attached font of a hostile name", with_attachments, WITH_SOUND,
                       "attachments are dropped", "mkv"),
    "ass-inside": Odd("an mkv with subtitles whose font is a path", with_subtitles("ass", ASS), WITH_SOUND,
                      "subtitles are dropped", "mkv"),
    "srt-inside": Odd("an mkv with subtitles that name files", with_subtitles("srt", SRT), WITH_SOUND,
                      "subtitles are dropped", "mkv"),
}  # fmt: skip

EXCESSES = {
    "tells-16000": Odd("a mov that tells 16000×16000", tells_sizes(16000, 16000), DAMAGED,
            "ffmpeg refuses so many pixels",
                       "mov"),
    "is-16000": Odd("a PNG of 16000×16000 in a mov that tells 64×48", told_otherwise(16000, 16000), UNSUPPORTED,
                    "too many pixels", "mov"),
    "is-65535": Odd("a PNG of 65535×8 in a mov that tells 64×48", told_otherwise(65535, 8), Becomes(1, 1),
                    "many, but not too many pixels", "mov"),
    "silence": Odd("a frame, and three hours of silence", hours_of_silence, Becomes(1, 1, sound=True),
                   "the picture decides", "mkv"),
    "sixty-four-channels": Odd("sound of 64 channels", many_channels, DAMAGED, "nobody knows how to mix them to two",
                               "mkv"),
    "million-seconds": Odd("an mkv that claims a million seconds", timed(0, 500, 1000, duration=1e9), Becomes(1, 3),
                           "a claim is no frame", "mkv"),
    "endless": Odd("an mkv that claims an endless length", timed(0, 500, 1000, duration=float("inf")), Becomes(1, 3),
                   "a claim is no frame", "mkv"),
    "back-in-time": Odd("times that go back", timed(1000, 500, 0), DAMAGED, "frames come later and later", "mkv"),
    "at-once": Odd("three frames at one time", timed(0, 0, 0), DAMAGED, "frames come later and later", "mkv"),
    "long-ticks": Odd("an mkv whose tick is 2^63 nanoseconds", timed(0, 1, 2, scale=2**63 - 1), DAMAGED,
                      "no clock goes so far", "mkv"),
    "no-ticks": Odd("an mkv whose tick is 0", timed(0, 500, 1000, scale=0), Becomes(1, 3), "a default is taken", "mkv"),
    "no-time-base": Odd("an mp4 whose second has 0 ticks", patched(b"mdhd", 12, bytes(4)), DAMAGED,
                        "no clock has no ticks"),
    "extradata": Odd("H.264 with a megabyte of parameters", extradata("V_MPEG4/ISO/AVC", 1 << 20), DAMAGED,
                     "they make no sense", "mkv"),
    "terabyte": Odd("an mkv element that claims a terabyte", claims_gigabytes, DAMAGED, "it ends before", "mkv"),
    "long-box": Odd("an mp4 box that claims 2^63 bytes", endless_box, DAMAGED, "moov lies behind it"),
    "many-samples": Odd("an mp4 that claims 2^32 frames", patched(b"stsz", 4, struct.pack(">II", 1, 2**32 - 1)),
                        NO_FRAMES, "the file is too short"),
    "many-times": Odd("an mp4 whose times claim 2^32 frames", patched(b"stts", 0, full(0, 1, 2**32 - 1, 512)),
                      WITHOUT_SOUND, "the sizes decide how many there are"),
    "negative-times": Odd("an mp4 whose frames last a negative time", patched(b"stts", 12, b"\xff\xff\xff\xf0"),
                          Becomes(1, 75), "libav takes a tick for each"),
    "nested": Odd("ten thousand boxes in one another", given(nested(10_000)), DAMAGED, "libav gives up in time"),
}  # fmt: skip


HOSTILE = {**PLAYLISTS, **EXCESSES}
