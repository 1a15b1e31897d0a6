"""Covers, stills, previews, several films, and other streams."""

from tests.formats.make import H264, Film, encoded, image, muxed, remuxed, silent_file, words
from tests.formats.row import LOW, MPEG2, VP9, Row

_SOUND = (silent_file(4.0), ".wav")
ROWS = [
    Row(
        "cover.mp4",
        "streams",
        "MP4 with an attached cover",
        muxed([(image, ".png"), (encoded(H264), ".mp4")], "-map 0 -map 1 -c copy -disposition:v:0 attached_pic"),
    ),
    Row(
        "cover.m4v",
        "streams",
        "M4V, an attached cover is the second video stream",
        muxed([(encoded(H264), ".mp4"), (image, ".jpg")], "-map 0 -map 1 -c copy -disposition:v:1 attached_pic -f mp4"),
    ),
    Row(
        "cover.mkv",
        "streams",
        "Matroska, a cover as an attachment",
        muxed([(encoded(H264), ".mp4"), (image, ".jpg")], "-map 0 -map 1 -c copy -disposition:v:1 attached_pic"),
        stream=0,
    ),
    Row(
        "still_first.mkv",
        "streams",
        "a still is the first video stream",
        muxed([(image, ".jpg"), (encoded(H264), ".mp4")], "-map 0 -map 1 -c copy"),
        stream=1,
    ),
    Row(
        "still_first.mp4",
        "streams",
        "MP4, a still is the first video stream",
        muxed([(image, ".png"), (encoded(H264), ".mp4")], "-map 0 -map 1 -c copy"),
        stream=1,
    ),
    Row(
        "preview_first.mkv",
        "streams",
        "a small preview is the first video stream",
        muxed(
            [(encoded(H264, Film(6, "5", 80, 60, first=2000)), ".mp4"), (encoded(H264), ".mp4")],
            "-map 0 -map 1 -c copy",
        ),
        stream=1,
    ),
    Row(
        "preview_first.mp4",
        "streams",
        "MP4, a small preview of the same length is the first video stream",
        muxed(
            [(encoded(H264, Film(60, "25", 80, 60, first=2000)), ".mp4"), (encoded(H264), ".mp4")],
            "-map 0 -map 1 -c copy -disposition:v 0",
        ),
        stream=1,
    ),
    Row(
        "two_default_second.mkv",
        "streams",
        "two films, the second is flagged as default",
        muxed(
            [(encoded(H264, Film(first=2000)), ".mp4"), (encoded(H264), ".mp4")],
            "-map 0 -map 1 -c copy -disposition:v:0 0 -disposition:v:1 default",
        ),
        stream=1,
    ),
    Row(
        "two_default_first.mkv",
        "streams",
        "two films, the first is flagged as default",
        muxed(
            [(encoded(H264), ".mp4"), (encoded(H264, Film(first=2000)), ".mp4")],
            "-map 0 -map 1 -c copy -disposition:v:0 default -disposition:v:1 0",
        ),
    ),
    Row(
        "two.mp4",
        "streams",
        "two films of one size, neither is marked",
        muxed([(encoded(H264), ".mp4"), (encoded(H264, Film(first=2000)), ".mp4")], "-map 0 -map 1 -c copy"),
    ),
    Row(
        "two.ts",
        "streams",
        "two films in TS",
        muxed([(encoded(H264), ".mp4"), (encoded(H264, Film(first=2000)), ".mp4")], "-map 0 -map 1 -c copy"),
    ),
    *(
        Row(
            f"sound_longer.{suffix}",
            "streams",
            f"the audio is longer than the video, in {what}",
            muxed([(encoded(args), source), (silent_file(9.0), ".wav")], f"-map 0 -map 1 -c:v copy -c:a {sound}"),
            codec=codec,
        )
        for suffix, what, args, source, sound, codec in (
            ("mkv", "Matroska", H264, ".mp4", "aac", "h264"),
            ("mp4", "MP4", H264, ".mp4", "aac", "h264"),
            ("ts", "TS", H264, ".ts", "mp2", "h264"),
            ("avi", "AVI", f"{LOW} -bf 0", ".avi", "mp2", "mpeg4"),
            ("flv", "FLV", H264, ".mp4", "aac", "h264"),
            ("webm", "WebM", VP9, ".webm", "libopus", "vp9"),
            ("mpg", "PS", f"{MPEG2} -bf 2", ".mpg", "mp2", "mpeg2video"),
            ("wmv", "ASF", "-c:v wmv2 -q:v 3 -g 12", ".wmv", "wmav2", "wmv2"),
        )
    ),
    Row(
        "video_longer.mkv",
        "streams",
        "the video is longer than the audio",
        muxed([(encoded(H264), ".mp4"), (silent_file(0.5), ".wav")], "-map 0 -map 1 -c:v copy -c:a aac"),
    ),
    Row(
        "sound_first.mp4",
        "streams",
        "the audio is the first stream",
        muxed([_SOUND, (encoded(H264), ".mp4")], "-map 0 -map 1 -c:v copy -c:a aac"),
    ),
    Row("timecode.mov", "streams", "MOV with a time code track", encoded(f"{H264} -timecode 10:00:00:00")),
    Row("words_only.mkv", "streams", "only subtitles", muxed([(words, ".srt")], "-c copy"), refused="no video stream"),
    Row(
        "words_first.mkv",
        "streams",
        "subtitles that end after the video",
        muxed([(words, ".srt"), (encoded(H264), ".mp4")], "-map 0 -map 1 -c copy"),
    ),
    Row(
        "sound_only.mp4",
        "streams",
        "no video",
        remuxed(silent_file(2.0), ".wav", "-c:a aac"),
        refused="no video stream",
    ),
    Row(
        "cover_only.m4a",
        "streams",
        "audio with a cover",
        muxed([_SOUND, (image, ".jpg")], "-map 0 -map 1 -c:a aac -c:v copy -disposition:v attached_pic -f mp4"),
        refused="cover image",
    ),
    Row(
        "cover_only.mp3",
        "streams",
        "MP3 with a cover",
        muxed([_SOUND, (image, ".jpg")], "-map 0 -map 1 -c:a libmp3lame -c:v copy -disposition:v attached_pic"),
        refused="not a video that can be read",
    ),
]
