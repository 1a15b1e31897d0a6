"""EasyOCR's languages against EasyOCR itself."""

from pathlib import Path

import easyocr
import pytest
from easyocr.config import all_lang_list
from pydantic import ValidationError

from curation.config import TextSettings
from curation.scores.text_languages import RECOGNISERS, recogniser_for

CODES = sorted(code for recogniser in RECOGNISERS for code in recogniser.languages)


def file_of(languages: list[str], folder: Path) -> str:
    """The file that EasyOCR asks for in an empty folder."""
    with pytest.raises(FileNotFoundError) as error:
        easyocr.Reader(
            languages, gpu=False, model_storage_directory=str(folder), user_network_directory=str(folder),
            download_enabled=False, detector=False, verbose=False,
        )  # fmt: skip
    return Path(str(error.value).split()[1]).name


@pytest.mark.parametrize("code", CODES)
def test_easyocr_asks_for_the_same_file(code, tmp_path):
    assert file_of([code], tmp_path) == recogniser_for([code]).file
    if code != "en":
        assert file_of([code, "en"], tmp_path) == recogniser_for([code, "en"]).file


@pytest.mark.parametrize("languages", [["ru", "uk", "en"], ["de", "fr"], ["hi", "ne"], ["ar", "fa", "en"]])
def test_languages_of_one_recogniser_go_together(languages, tmp_path):
    assert file_of(languages, tmp_path) == recogniser_for(languages).file


def test_a_language_given_twice_counts_once():
    assert TextSettings(languages=["en", "en"]).languages == ["en"]


def test_each_language_is_easyocr_s_and_listed_once():
    assert len(CODES) == len(set(CODES))
    assert set(CODES) <= set(all_lang_list)


@pytest.mark.parametrize(
    ("languages", "message"),
    [
        ([], "empty"),
        (["xx"], "no language xx"),
        (["en", "RU"], "no language RU"),
        (["ru", "ja"], "no single recogniser"),
        (["ru", "de"], "no single recogniser"),
        (["ch_sim", "ch_tra"], "no single recogniser"),
    ],
)
def test_languages_that_cannot_be_read_are_refused(languages, message):
    with pytest.raises(ValidationError, match=message) as error:
        TextSettings(languages=languages)
    assert error.value.errors()[0]["loc"] == ("languages",)
