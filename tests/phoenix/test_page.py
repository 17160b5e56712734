"""The page's server with texts from a plain function: streaming, refusals, one text at a time, and its end."""

import http.client
import json
import re
import threading
from contextlib import contextmanager

import pytest

from phoenix.config import UserError
from phoenix.page import PageServer
from tests.training import wait_until

SETTINGS = {"about": "</script><b>a model</b>", "prompt": "<i>", "tokens": 5}


def endless(settings):
    while True:
        yield {"text": "a", "probability": 1.0}


@contextmanager
def serving(answer):
    with PageServer(SETTINGS, answer, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.ending.set()
            server.shutdown()
            thread.join()


def request(server, method="GET", path="/", body=None, **headers):
    """-> (connection, response); a connection for each request, as the server closes it."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.request(method, path, body, headers)
    return connection, connection.getresponse()


def lines(response):
    return [json.loads(line) for line in response.read().splitlines()]


def test_a_text_streams_line_by_line_before_its_end():
    go_on = threading.Event()

    def answer(settings):
        yield {"seed": settings["seed"]}
        assert go_on.wait(30)  # set only after the first line has come
        yield {"text": "<script>ü</script>", "probability": 0.5}

    with serving(answer) as server:
        connection, response = request(server, "POST", "/text", json.dumps({"seed": 3}))
        assert response.status == 200 and json.loads(response.readline()) == {"seed": 3}
        go_on.set()
        assert lines(response) == [{"text": "<script>ü</script>", "probability": 0.5}]
        connection.close()


def test_the_page_holds_its_settings_as_data_and_nothing_from_elsewhere():
    with serving(lambda settings: iter(())) as server:
        _, response = request(server)
        html = response.read().decode()
        assert response.status == 200 and "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert html.count("</script>") == 2 and "<b>a model" not in html and "<i>" not in html
        assert json.loads(re.search(r'id="given">(.*?)</script>', html)[1]) == SETTINGS
        assert "innerHTML" not in html and "://" not in html
        assert request(server, path="/etc/passwd")[1].status == 404
        assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example", ""])
def test_another_name_of_the_loopback_is_refused(host):
    with serving(lambda settings: iter([{"seed": 1}])) as server:
        assert request(server, Host=host)[1].status == 403
        assert request(server, "POST", "/text", "{}", Host=host)[1].status == 403


def test_another_sites_page_is_refused_and_the_names_of_the_loopback_are_not():
    with serving(lambda settings: iter([{"seed": 1}])) as server:
        assert request(server, "POST", "/text", "{}", Origin="http://evil.example")[1].status == 403
        assert request(server, "POST", "/text", "{}", Origin="null")[1].status == 403
        for host in (f"localhost:{server.server_port}", "127.0.0.1:8000", "[::1]:1"):  # another port: an SSH tunnel
            assert lines(request(server, "POST", "/text", "{}", Host=host, Origin=f"http://{host}")[1]) == [{"seed": 1}]


def test_a_mistake_is_one_sentence():
    def answer(settings):
        raise UserError("top_p must be less")
        yield

    with serving(answer) as server:
        for body, sentence in (
            ("{}", "top_p must be less"),
            ("[]", "a JSON object is expected"),
            ("{", "Expecting"),
            ("", "Expecting"),
        ):
            _, response = request(server, "POST", "/text", body)
            assert response.status == 400
            (line,) = lines(response)
            assert line["error"].startswith(sentence)
        assert request(server, "POST", "/text", "{}", **{"Content-Length": "99999999999"})[1].status == 400
        with pytest.raises(UserError, match="cannot be opened"):
            PageServer(SETTINGS, answer, server.server_port)
    with pytest.raises(UserError, match="cannot be opened"):
        PageServer(SETTINGS, answer, 70_000)


def test_a_failure_within_a_text_is_its_last_line():
    def answer(settings):
        yield {"seed": 1}
        raise RuntimeError("out of memory")

    with serving(answer) as server:
        assert lines(request(server, "POST", "/text", "{}")[1]) == [{"seed": 1}, {"error": "out of memory"}]


def test_a_closed_browser_ends_its_text_and_lets_the_next_one_begin():
    ended = []

    def answer(settings):
        try:
            while True:
                yield {"text": "a" * 1000, "probability": 1.0}
        finally:
            ended.append(settings["seed"])

    with serving(answer) as server:
        first, response = request(server, "POST", "/text", '{"seed": 1}')
        assert response.readline() and not ended
        response.close()
        first.close()
        second, response = request(server, "POST", "/text", '{"seed": 2}')
        assert response.readline() and ended == [1]
        response.close()
        second.close()
        wait_until(lambda: ended == [1, 2])


def test_texts_are_written_one_at_a_time(monkeypatch):
    monkeypatch.setattr("phoenix.page.PATIENCE", 0.01)

    with serving(endless) as server:
        connection, response = request(server, "POST", "/text", "{}")
        assert response.readline()
        _, other = request(server, "POST", "/text", "{}")
        assert other.status == 409 and "another text" in lines(other)[0]["error"]
        connection.close()


def test_the_servers_end_ends_a_text():
    with serving(endless) as server:
        connection, response = request(server, "POST", "/text", "{}")
        assert response.readline()
        server.ending.set()
        response.read()  # returns, because the server closes the connection
        assert server.writing.acquire(timeout=30)
        connection.close()
