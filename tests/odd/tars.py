"""Tars by hand: members whose headers are odd, and tars that are not whole."""

from __future__ import annotations

import gzip
from collections.abc import Callable

from odd.rows import Becomes, BreaksShard, Ignored, OddMember, OddTar, Refused

BLOCK = 512
END = bytes(2 * BLOCK)
ONE_CLIP = Becomes(1, 5)
UNSAFE, DOUBLE, NO_VIDEO = Refused("unsafe_key"), Refused("duplicate_key"), Refused("no_video")


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % BLOCK)


def header(name: bytes, size: int | bytes, kind: bytes = b"0", link: bytes = b"", prefix: bytes = b"") -> bytes:
    """Write a header block; a size in bytes is written as it is."""
    told = size if isinstance(size, bytes) else b"%011o\0" % size
    assert len(name) <= 100
    assert len(told) == 12
    start = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + told + b"00000000000\0"
    end = kind + link.ljust(100, b"\0") + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2 + prefix.ljust(155, b"\0")
    whole = start + b" " * 8 + end.ljust(BLOCK - 156, b"\0")
    return start + b"%06o\0 " % sum(whole) + end.ljust(BLOCK - 156, b"\0")


def member(name: bytes, content: bytes, kind: bytes = b"0") -> bytes:
    return header(name, len(content), kind) + padded(content)


def pax(kind: bytes = b"x", **records: bytes) -> bytes:
    """Write a pax header; ``__`` in a keyword stands for a dot."""
    content = b""
    for keyword, value in records.items():
        record = keyword.replace("__", ".").encode() + b"=" + value + b"\n"
        length = len(record) + 1
        while len(str(length)) + 1 + len(record) != length:
            length = len(str(length)) + 1 + len(record)
        content += str(length).encode() + b" " + record
    return member(b"PaxHeaders/x", content, kind)


def gnu_long(name: bytes, kind: bytes = b"L") -> bytes:
    return member(b"././@LongLink", name + b"\0", kind)


def base_256(size: int) -> bytes:
    return (size & (1 << 96) - 1 | 1 << 95).to_bytes(12, "big")


def named(*names: bytes) -> Callable[[bytes], bytes]:
    """Give a good video each of these names."""
    return lambda video: b"".join(member(name, video) for name in names)


def special(kind: bytes, name: bytes, link: bytes = b"") -> Callable[[bytes], bytes]:
    return lambda video: header(name, 0, kind, link)


def one(key: str, fate: Becomes | Refused | Ignored) -> dict[str, tuple[Becomes | Refused | Ignored, ...]]:
    return {key: (fate,)}


PATHS = "keys become names of members: none may lead out of a folder that somebody unpacks into"
NUMBERED = "the name never becomes a file's name: videos lie in scratch under numbers"
NO_FILE = "what is no file has no content, and is never followed"

NAMES = {
    "parent": OddMember("`../x.mp4`", named(b"../up.mp4"), one("../up", UNSAFE), PATHS),
    "parents": OddMember("`a/../../b.mp4`", named(b"a/../../b.mp4"), one("a/../../b", UNSAFE), PATHS),
    "absolute": OddMember("`/etc/x.mp4`", named(b"/etc/x.mp4"), one("/etc/x", UNSAFE), PATHS),
    "prefix": OddMember("`..` in the prefix field", lambda video: header(b"p.mp4", len(video), prefix=b"..") +
                        padded(video), one("../p", UNSAFE), PATHS),
    "here": OddMember("`./here.mp4`", named(b"./here.mp4"), one("here", ONE_CLIP), "as `tar c .` writes it"),
    "double-slash": OddMember("`a//b.mp4`", named(b"a//b.mp4"), one("a//b", UNSAFE), PATHS),
    "option": OddMember("`-i.mp4`", named(b"-i.mp4"), one("-i", ONE_CLIP), NUMBERED),
    "newline": OddMember("`a\\nb.mp4`", named(b"a\nb.mp4"), one("a\\nb", UNSAFE), "keys are printed, a line each"),
    "escape": OddMember("a terminal's escape sequence", named(b"\x1b]0;x\x07e.mp4"), one("\\x1b]0;x\\x07e", UNSAFE),
                        "keys are printed"),
    "bidi": OddMember("a right-to-left override", named("abc\u202e4pm.mp4".encode()), one("abc\\u202e4pm", UNSAFE),
                      "keys are shown to people"),
    "concat": OddMember("`concat:a|b.mp4`", named(b"concat:a|b.mp4"), one("concat:a|b", ONE_CLIP), NUMBERED),
    "subfile": OddMember("`subfile,,start,0,end,9,,:x.mp4`", named(b"subfile,,start,0,end,9,,:x.mp4"),
                         one("subfile,,start,0,end,9,,:x", ONE_CLIP), NUMBERED),
    "pipe": OddMember("`pipe:0.mp4`", named(b"pipe:0.mp4"), one("pipe:0", ONE_CLIP), NUMBERED),
    "pattern": OddMember("`%d.mp4`", named(b"%d.mp4"), one("%d", ONE_CLIP), NUMBERED),
    "shell": OddMember("`$(reboot);'\"&.mp4`", named(b"$(reboot);'\"&.mp4"), one("$(reboot);'\"&", ONE_CLIP),
                       "no shell sees it"),
    "markup": OddMember("`<script>.mp4`", named(b"<script>.mp4"), one("<script>", ONE_CLIP), "pages escape it"),
    "long-gnu": OddMember("a name of 5,000 bytes (GNU)", lambda video: gnu_long(b"g" * 4996 + b".mp4") +
                          member(b"g", video), one("g" * 1024, UNSAFE), "1,024 characters are enough"),
    "long-pax": OddMember("a name of 5,000 bytes (pax)", lambda video: pax(path=b"p" * 4996 + b".mp4") +
                          member(b"p", video), one("p" * 1024, UNSAFE), "1,024 characters are enough"),
    "no-utf-8": OddMember("bytes that are no UTF-8", named(b"\xff\xfe\x80.mp4"), one("\\udcff\\udcfe\\udc80", UNSAFE),
                          "keys are Unicode"),
    "zero-byte": OddMember("a zero byte in a pax name", lambda video: pax(path=b"zero\0byte.mp4") + member(b"z", video),
                           one("zero", NO_VIDEO), "a name ends at its first zero byte"),
    "pax-parent": OddMember("a pax name that leads out", lambda video: pax(path=b"../../q.mp4") + member(b"q", video),
                            one("../../q", UNSAFE), PATHS),
    "dots": OddMember("`....mp4`, a key of dots only", named(b"....mp4"), one("....mp4", NO_VIDEO),
                      "a name without a key has no suffix"),
    "two-dots": OddMember("`...mp4`, the key `..`", named(b"...mp4"), one("...mp4", NO_VIDEO),
                          "a name without a key has no suffix"),
    "windows": OddMember("`C:\\Windows\\x.mp4`", named(b"C:\\Windows\\x.mp4"), one("C:\\Windows\\x", UNSAFE), PATHS),
    "device-name": OddMember("`CON.mp4`", named(b"CON.mp4"), one("CON", ONE_CLIP),
                             "a device's name on Windows; clips lie in a folder of that name"),
    "case": OddMember("`Case.mp4` and `case.mp4`", named(b"Case.mp4", b"case.mp4"),
                      {"Case": (ONE_CLIP,), "case": (ONE_CLIP,)}, "keys are compared byte by byte"),
    "accents": OddMember("`é` in one and in two characters", named(b"\xc3\xa9.mp4", b"e\xcc\x81.mp4"),
                         {"\u00e9": (ONE_CLIP,), "e\u0301": (ONE_CLIP,)}, "keys are compared byte by byte"),
    "loud": OddMember("`LOUD.MP4`", named(b"LOUD.MP4"), one("LOUD", ONE_CLIP),
            "suffixes are compared in small letters"),
    "no-suffix": OddMember("a member without a suffix", named(b"README"), one("README", NO_VIDEO), "no video"),
    "other-suffix": OddMember("a tar in the tar", named(b"inner.tar"), one("inner", NO_VIDEO), "it is not opened"),
    "twins": OddMember("a name twice", named(b"twin.mp4", b"twin.mp4"), {"twin": (ONE_CLIP, DOUBLE)},
                       "the first counts"),
    "again": OddMember("a key that comes again later", named(b"first.mp4", b"between.mp4", b"first.webm"),
                       {"first": (ONE_CLIP, DOUBLE), "between": (ONE_CLIP,)}, "the first counts"),
    "two-videos": OddMember("two videos of one key", named(b"two.webm", b"two.mp4"), one("two", ONE_CLIP),
                            ".mp4 before .webm before .mkv before .mov before .avi"),
    "dotted": OddMember("`a.b.mp4`", named(b"dot.b.mp4"), one("dot", NO_VIDEO),
                        "the key ends at the first dot, as webdataset says"),
}  # fmt: skip

KINDS = {
    "symlink": OddMember("a symbolic link", special(b"2", b"soft.mp4", b"/etc/passwd"), one("soft", NO_VIDEO), NO_FILE),
    "symlink-far": OddMember("a symbolic link to a long path", lambda video: gnu_long(b"/" + b"l" * 300, b"K") +
                             header(b"far.mp4", 0, b"2", b"/ll"), one("far", NO_VIDEO), NO_FILE),
    "hard-link": OddMember("a hard link", special(b"1", b"hard.mp4", b"good-first.mp4"), one("hard", NO_VIDEO),
            NO_FILE),
    "fifo": OddMember("a named pipe", special(b"6", b"fifo.mp4"), one("fifo", NO_VIDEO), NO_FILE),
    "character-device": OddMember("a character device", special(b"3", b"null.mp4"), one("null", NO_VIDEO),
                                  NO_FILE),
    "block-device": OddMember("a block device", special(b"4", b"sda.mp4"), one("sda", NO_VIDEO), NO_FILE),
    "info-link": OddMember("a link in place of an .info.json", lambda video: header(b"linked.info.json", 0, b"2",
                           b"/etc/passwd") + member(b"linked.mp4", video), one("linked", ONE_CLIP), NO_FILE),
    "link-through": OddMember("a link to a folder, and a file in it", lambda video: header(b"out", 0, b"2", b"..") +
                              member(b"out/through.mp4", video), {"out": (NO_VIDEO,), "out/through": (ONE_CLIP,)},
                              "nothing is unpacked"),
    "folder": OddMember("an entry of a folder", special(b"5", b"folder/"), one("folder", Ignored()), "harmless"),
    "folder-of-video": OddMember("a folder named .mp4", special(b"5", b"dir.mp4/"), one("dir", Ignored()), "harmless"),
    "slash": OddMember("a file whose name ends in a slash", lambda video: member(b"slash.mp4/", b"x", b"0"),
                       one("slash.mp4/", UNSAFE), PATHS),
    "contiguous": OddMember("a contiguous file (type 7)", lambda video: member(b"seven.mp4", video, b"7"),
                            one("seven", ONE_CLIP), "a file as any other"),
    "old": OddMember("a file of the old type (a zero byte)", lambda video: member(b"old.mp4", video, b"\0"),
                     one("old", ONE_CLIP), "a file as any other"),
    "pax-size": OddMember("a size that a pax header sets right", lambda video: pax(size=b"%d" % len(video)) +
                          header(b"sized.mp4", 0) + padded(video), one("sized", ONE_CLIP), "pax counts"),
    "base-256": OddMember("a small size in base 256", lambda video: header(b"wide.mp4", base_256(len(video))) +
                          padded(video), one("wide", ONE_CLIP), "GNU writes it so"),
}  # fmt: skip


def behind(extra: Callable[[bytes], bytes]) -> Callable[[bytes, bytes], bytes]:
    """Add a member behind two good ones."""
    return lambda tar, video: tar.rstrip(b"\0") + bytes(-len(tar.rstrip(b"\0")) % BLOCK) + extra(video) + END


def content_end(tar: bytes) -> int:
    return -(-len(tar.rstrip(b"\0")) // BLOCK) * BLOCK


def damaged(words: str) -> BreaksShard:
    return BreaksShard("DamagedTarError", words)


LOST = "members may be missing: nobody knows"

TARS = {
    "empty-file": OddTar("an empty file", lambda tar, video: b"", damaged("cut short"), LOST),
    "text-file": OddTar("a text", lambda tar, video: b"no tar\n" * 500, damaged("damaged at byte 0"), LOST),
    "gzip": OddTar("a gzip-compressed tar named .tar", lambda tar, video: gzip.compress(tar, 1, mtime=0),
                   damaged("damaged at byte 0"), "shards are read as they stream, at places that are known"),
    "video-file": OddTar("a video named .tar", lambda tar, video: video, damaged("damaged at byte 0"), LOST),
    "no-member": OddTar("a tar without a member", lambda tar, video: END, BreaksShard("EmptyShardError"),
                        "a shard without a video is a mistake"),
    "folders-only": OddTar("a tar of folders only", lambda tar, video: header(b"x/", 0, b"5") + END,
                           BreaksShard("EmptyShardError"), "a shard without a video is a mistake"),
    "cut-in-member": OddTar("cut in a member", lambda tar, video: tar[: content_end(tar) - 700], damaged("cut short"),
                            LOST),
    "cut-at-member": OddTar("cut at a member's end", lambda tar, video: tar[: content_end(tar)], damaged("cut short"),
                            LOST),
    "one-zero-block": OddTar("one zero block at the end", lambda tar, video: tar[: content_end(tar) + BLOCK],
                             damaged("cut short|zero block"), LOST),
    "data-behind": OddTar("data behind the end", lambda tar, video: tar[: content_end(tar)] + END + b"more" * 128,
                          damaged("behind its end"), "two tars in one: members would be missing"),
    "two-tars": OddTar("two tars in one", lambda tar, video: tar + tar, damaged("behind its end"),
                       "members would be missing"),
    "zero-block-between": OddTar("a zero block between members", lambda tar, video: bytes(BLOCK) + tar,
                                 damaged("zero block"), "members would be missing"),
    "flipped-name": OddTar("a flipped bit in a header", lambda tar, video: bytes([tar[0] ^ 1]) + tar[1:],
                           damaged("checksum"), "nobody knows what else is flipped"),
    "eight-gigabytes": OddTar("a size of 8 GiB, in base 256", behind(lambda video: header(b"b.mp4", base_256(8 << 30))),
                              damaged("cut short"), "the member ends behind the file"),
    "endless-size": OddTar("a size of 2^95 − 1", behind(lambda video: header(b"b.mp4", b"\x80" + b"\xff" * 11)),
                           damaged("cut short"), "the member ends behind the file"),
    "negative-size": OddTar("a negative size", behind(lambda video: header(b"b.mp4", b"\xff" * 11 + b"\0")),
                            damaged("negative"), "no member is shorter than nothing"),
    "negative-octal": OddTar("a negative size in octal", behind(lambda video: header(b"b.mp4", b"-0000001000\0")),
                             damaged("negative|octal"), "no member is shorter than nothing"),
    "no-number": OddTar("a size that is no number", behind(lambda video: header(b"b.mp4", b"0x000001000\0")),
                        damaged("octal"), "nobody knows where it ends"),
    "pax-far": OddTar("a pax size beyond the end", behind(lambda video: pax(size=b"99999999999") +
                      member(b"b.mp4", video)), damaged("cut short"), "the member ends behind the file"),
    "pax-negative": OddTar("a negative pax size", behind(lambda video: pax(size=b"-1") + member(b"b.mp4", video)),
                           damaged("pax size"), "no member is shorter than nothing"),
    "pax-digits": OddTar("a pax size of a thousand digits", behind(lambda video: pax(size=b"9" * 5000) +
                         member(b"b.mp4", video)), damaged("pax|cut short"), "no number is so long"),
    "pax-global": OddTar("a size for all members", behind(lambda video: pax(b"g", size=b"1") + member(b"b.mp4", video)),
                         damaged("all of the tar"), "readers differ on what it means"),
    "pax-broken": OddTar("a pax header that is no record", behind(lambda video: member(b"x", b"nonsense", b"x") +
                         member(b"b.mp4", video)), damaged("pax"), "nobody knows what it says"),
    "pax-large": OddTar("a pax header of 2 MB", behind(lambda video: pax(comment=b"c" * 2_000_000) +
                        member(b"b.mp4", video)), damaged("longer than"), "headers are held in memory"),
    "sparse-gnu": OddTar("a sparse member (GNU)", behind(lambda video: member(b"b.mp4", video, b"S")),
                         damaged("type b'S'"), "its content is not what lies there"),
    "sparse-pax": OddTar("a sparse member (pax)", behind(lambda video: pax(GNU__sparse__major=b"1",
                         GNU__sparse__minor=b"0") + member(b"b.mp4", video)), damaged("sparse"),
                         "its content is not what lies there"),
    "multi-volume": OddTar("the rest of a member of another volume", behind(lambda video: member(b"b.mp4", video,
            b"M")),
                           damaged("type b'M'"), "its start is missing"),
    "strange-type": OddTar("a type that nobody knows", behind(lambda video: member(b"b.mp4", video, b"?")),
                           damaged("type"), "nobody knows what it is"),
    "lone-long-name": OddTar("a long name at the end, of nothing", behind(lambda video: gnu_long(b"x" * 200)),
                             damaged(""), "its member is missing"),
}  # fmt: skip
