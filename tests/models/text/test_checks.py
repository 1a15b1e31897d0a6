import pytest

from models.text.checks import at_least_one, listed, naming, read_json


def test_what_a_library_says_is_given_the_files_names(tmp_path):
    with pytest.raises(ValueError, match="one and two: cannot be used .*KeyError: 3") as caught, naming("one", "two"):
        raise KeyError(3)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_missing_file_stays_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_json(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["{", "[]", "", "\udcff"])
def test_what_is_no_json_object_is_named(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"a\.json: cannot be used"):
        read_json(tmp_path / "a.json")


def test_captions_are_a_list_of_texts():
    assert listed(("a", "")) == ["a", ""]
    for captions in ("a", [], [None]):
        with pytest.raises(ValueError, match="captions"):
            listed(captions)


def test_a_token_at_least():
    assert at_least_one(1) == 1
    with pytest.raises(ValueError, match="max_tokens = 0"):
        at_least_one(0)
