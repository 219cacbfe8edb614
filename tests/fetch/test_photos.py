"""Single photos from a local server that has only some of them, some damaged."""

import threading

import pytest
from faulty_server import status, whole
from fetch_world import HEIGHT, WIDTH, jpeg, photo_name

from maskris.fetch import fetch_photos, photos
from maskris.fetch.referents import Photo
from maskris.utils.download import DownloadError


@pytest.fixture
def addresses(server):
    for i in range(5):
        server.give(f"/{photo_name(i)}", whole(jpeg(i)))
    base = server.give("/", status(404)).rstrip("/")
    return [f"{base}/COCO_train2014_{{number}}.jpg"]


def needed(*numbers):
    return [Photo(photo_name(i), HEIGHT, WIDTH) for i in numbers]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_missing_and_damaged_photos_are_named_and_the_next_call_goes_on(server, addresses, tmp_path):
    good = jpeg(3)
    server.give(f"/{photo_name(1)}", status(404))
    server.give(f"/{photo_name(2)}", whole(good[: len(good) // 2]))
    server.give(f"/{photo_name(3)}", whole(jpeg(3, (16, 16))))
    report = fetch_photos(needed(0, 1, 2, 3, 4), tmp_path / "photos", addresses, shown=False)
    assert names(tmp_path / "photos") == [photo_name(0), photo_name(4)]
    assert (report.fetched, report.there) == (2, 0)
    (one, why_one), (two, why_two), (three, why_three) = report.failed
    assert (one, two, three) == tuple(photo_name(i) for i in (1, 2, 3))
    assert why_one.endswith("404 Not Found")
    assert why_two.endswith("it can't be decoded")
    assert why_three.endswith("it has 16 x 16 pixels, but is annotated as 32 x 24")
    server.requests.clear()
    for i in (1, 2, 3):
        server.give(f"/{photo_name(i)}", whole(jpeg(i)))
    report = fetch_photos(needed(0, 1, 2, 3, 4), tmp_path / "photos", addresses, shown=False)
    assert (report.fetched, report.there, report.failed) == (3, 2, [])
    assert sorted(path for path, *_ in server.requests) == [f"/{photo_name(i)}" for i in (1, 2, 3)]
    assert [(tmp_path / "photos" / photo_name(i)).read_bytes() == jpeg(i) for i in range(5)] == [True] * 5


def test_the_second_address_takes_over(server, addresses, tmp_path):
    other = server.give("/other", status(404)) + "/{number}"
    server.give("/other/000000000000", whole(jpeg(0)))
    server.give(f"/{photo_name(0)}", whole(jpeg(0)[:300]))
    report = fetch_photos(needed(0), tmp_path / "photos", [*addresses, other], shown=False)
    assert (report.fetched, report.failed) == (1, [])


def test_what_is_there_is_replaced_only_if_nobody_can_use_it(addresses, tmp_path):
    (tmp_path / photo_name(0)).write_bytes(jpeg(0)[:300])
    (tmp_path / photo_name(1)).write_bytes(mine := jpeg(1, (64, 48)))
    report = fetch_photos(needed(0, 1), tmp_path, addresses, shown=False)
    assert (tmp_path / photo_name(0)).read_bytes() == jpeg(0)
    assert (tmp_path / photo_name(1)).read_bytes() == mine
    (failed,) = report.failed
    assert failed[1].startswith("it has 64 x 48 pixels, but is annotated as 32 x 24; move ")


def test_photos_that_are_here_are_copied(server, addresses, tmp_path):
    own = tmp_path / "own"
    (own / "photos").mkdir(parents=True)
    (own / photo_name(0)).write_bytes(jpeg(0))
    (own / "photos" / photo_name(1)).write_bytes(jpeg(1))
    (own / photo_name(2)).write_bytes(b"damaged")
    report = fetch_photos(needed(0, 1, 2), tmp_path / "photos", addresses, source=own, shown=False)
    assert report.fetched == 3
    assert [path for path, *_ in server.requests] == [f"/{photo_name(2)}"]
    assert (own / photo_name(2)).read_bytes() == b"damaged"


def test_names_of_coco_2017_mean_the_same_photos(addresses, tmp_path):
    report = fetch_photos([Photo("000000000002.jpg", HEIGHT, WIDTH)], tmp_path, addresses, shown=False)
    assert (tmp_path / "000000000002.jpg").read_bytes() == jpeg(2)
    report = fetch_photos([Photo("mine.jpg", HEIGHT, WIDTH)], tmp_path, addresses, shown=False)
    assert report.failed == [("mine.jpg", "there is no address for such a name")]


def test_a_server_that_gives_nothing_is_not_asked_20000_times(server, addresses, tmp_path):
    many = [Photo(f"COCO_train2014_{i:012d}.jpg", HEIGHT, WIDTH) for i in range(100, 200)]
    for photo in many:
        server.give(f"/{photo.image}", status(403))
    with pytest.raises(DownloadError, match=r"20 photos in a row could not be fetched.*(?s:.*)403 Forbidden"):
        fetch_photos(many, tmp_path, addresses, shown=False)
    assert len(server.requests) < 60


def test_never_more_than_the_chosen_connections(server, tmp_path):
    running, most, lock = 0, 0, threading.Lock()
    content = jpeg(0)

    def slow(request):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.02)
        with lock:
            running -= 1
        whole(content)(request)

    base = server.give("/", status(404)).rstrip("/")
    many = needed(*range(30))
    for photo in many:
        server.give(f"/{photo.image}", slow)
    report = fetch_photos(many, tmp_path, [f"{base}/COCO_train2014_{{number}}.jpg"], shown=False)
    assert report.fetched == 30
    assert 2 <= most <= photos.CONNECTIONS
