#!/usr/bin/env python3
"""canary_scan.py [-d DICTIONARY]... CANARY PATH...: where bytes can be read from files.

Prints "PATH: HOW" for each file, also those below a directory, that shows the
canary, a text of 20 characters or more without repetitions:
  clear     as it is, in base64 at any offset, or broken by the control bytes of pglz
  hex       the same in what is written as \\x and hexadecimal digits
  zlib      the same in a zlib stream of a dump
  zstd      the same in a zstd frame, with one of the dictionaries or with none
A frame is found by its magic number, also in rows of TOAST tables that are put
together from the pages, and in WAL without the headers of its pages.
"""

import base64
import ctypes
import os
import re
import struct
import sys
import zlib

PAGE = 8192
MAGIC = b"\x28\xb5\x2f\xfd"
MOST = 8 << 20
zstd = ctypes.CDLL("libzstd.so.1")
zstd.ZSTD_createDCtx.restype = ctypes.c_void_p
zstd.ZSTD_findFrameCompressedSize.restype = ctypes.c_size_t
zstd.ZSTD_decompress_usingDict.restype = ctypes.c_size_t
zstd.ZSTD_decompress_usingDict.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t,
                                           ctypes.c_char_p, ctypes.c_size_t,
                                           ctypes.c_char_p, ctypes.c_size_t]
context = zstd.ZSTD_createDCtx()
room = ctypes.create_string_buffer(MOST)
opened = 0


def needles(canary):
    """Pieces of which one is whole wherever pglz puts a control byte after eight others:
    each with the five bytes beside it, and whether these come before it."""
    forms = [canary] + [base64.b64encode(b"x" * n + canary)[4:-8] for n in range(3)]
    return [(form[at:at + 5], form[at + 5:at + 10], False) if at + 10 <= len(form)
            else (form[at:at + 5], form[at - 5:at], True)
            for form in forms for at in range(0, len(form) - 4, 4)]


def shows(content, sought):
    """By a piece and what is beside it, with a control byte in between or none."""
    for piece, beside, before in sought:
        at = content.find(piece)
        while at >= 0:
            near = content[max(at - 6, 0):at] if before else content[at + 5:at + 11]
            plain = near[-5:] if before else near[:5]
            if beside in [plain] + [near[:n] + near[n + 1:] for n in range(6)]:
                return True
            at = content.find(piece, at + 1)
    return False


def frames(content, dictionaries):
    """What the zstd frames in it hold."""
    global opened
    at = content.find(MAGIC)
    while at >= 0:
        rest = content[at:at + MOST]
        size = zstd.ZSTD_findFrameCompressedSize(rest, ctypes.c_size_t(len(rest)))
        if size <= len(rest):
            for dictionary in [b""] + dictionaries:
                n = zstd.ZSTD_decompress_usingDict(context, room, MOST, rest, size,
                                                   dictionary, len(dictionary))
                if n <= MOST:
                    opened += 1
                    yield room.raw[:n]
        at = content.find(MAGIC, at + 1)


def toasted(content):
    """Values put together from the rows of a TOAST table's pages, dead ones too."""
    chunks = {}
    for start in range(0, len(content) - PAGE + 1, PAGE):
        page = content[start:start + PAGE]
        lower = struct.unpack_from("<H", page, 12)[0]
        for at in range(24, min(lower, PAGE), 4):
            item = struct.unpack_from("<I", page, at)[0]
            offset, flags, length = item & 0x7fff, item >> 15 & 3, item >> 17
            if flags != 1 or length < 36 or offset + length > PAGE:
                continue
            row = page[offset:offset + length]
            if struct.unpack_from("<H", row, 18)[0] & 0x7ff == 3 and row[22] == 24:
                value, number = struct.unpack_from("<II", row, 24)
                chunks.setdefault(value, {})[number] = row[36:]
    for parts in chunks.values():
        yield b"".join(parts[number] for number in sorted(parts))


def without_headers(wal):
    """WAL as a stream: what a page's end cuts is whole again."""
    pages = (wal[start:start + PAGE] for start in range(0, len(wal), PAGE))
    return b"".join(page[40 if len(page) > 2 and page[2] & 2 else 24:] for page in pages)


def inflated(dump):
    """The data of a custom dump: zlib streams in blocks, each after its length."""
    for start in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", dump):
        at = start.start() - 5
        stream = b""
        while at >= 0 and at + 5 <= len(dump) and dump[at] == 0:
            length = struct.unpack_from("<I", dump, at + 1)[0]
            if not 0 < length < 1 << 20:
                break
            stream += dump[at + 5:at + 5 + length]
            at += 5 + length
        try:
            if stream:
                yield zlib.decompressobj().decompress(stream)
        except zlib.error:
            continue


def forms(path, content):
    """The file, and what else it says in other words: (how, bytes)."""
    yield "clear", content
    if "/pg_wal/" in path:
        yield "clear", without_headers(content)
    elif len(content) % PAGE == 0:
        for value in toasted(content):
            yield "clear", value
    for run in re.finditer(rb"\\x((?:[0-9a-f]{2}){16,})", content):
        yield "hex", bytes.fromhex(run.group(1).decode())
    if content.startswith(b"PGDMP"):
        for text in inflated(content):
            yield "zlib", text
            for run in re.finditer(rb"\\x((?:[0-9a-f]{2}){16,})", text):
                yield "zlib", bytes.fromhex(run.group(1).decode())


def look(path, sought, dictionaries):
    with open(path, "rb") as file:
        content = file.read()
    found = set()
    for how, form in forms(path, content):
        if shows(form, sought):
            found.add(how)
        if any(shows(text, sought) for text in frames(form, dictionaries)):
            found.add("zstd")
    for how in sorted(found):
        print(f"{path}: {how}")


def main(arguments):
    dictionaries = []
    while arguments[0] == "-d":
        with open(arguments[1], "rb") as file:
            dictionaries.append(file.read())
        arguments = arguments[2:]
    sought = needles(arguments[0].encode())
    for root in arguments[1:]:
        paths = [root] if os.path.isfile(root) else [
            os.path.join(place, name) for place, _, names in os.walk(root) for name in names]
        for path in sorted(paths):
            if os.path.isfile(path):
                look(path, sought, dictionaries)
    print(f"{opened} frames", file=sys.stderr)


main(sys.argv[1:])
