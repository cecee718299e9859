"""A whole agent behind TLS, certificates of clients and a password, and those who ask it."""

from __future__ import annotations

import pytest
import yaml
from gated import MUTUAL, hashed, written
from live import Agent, eventually, fetch, inferometer_here
from observed import Prometheus, here


@pytest.fixture
def guarded(folder):
    """An agent with TLS, certificates of clients and a password; its configuration is in ``folder``."""
    text = f"tls_server_config: {{{MUTUAL}}}\nbasic_auth_users: {{bob: '{hashed('right', 10)}'}}\n"
    (folder / "password").write_text("right\n")
    arguments = ("--gpus", "none", "--interval", "200ms", "--web.config.file", written(folder, text))
    with Agent(folder / "log", *arguments) as agent:
        yield agent


def test_a_real_prometheus_scrapes_by_tls_certificate_and_password(guarded, folder):
    if not here("prometheus"):
        pytest.skip("prometheus is not installed")
    base = guarded.url
    assert base.startswith("https://127.0.0.1:")
    prometheus = Prometheus(folder / "prometheus", [base.removeprefix("https://")])
    path = folder / "prometheus" / "prometheus.yaml"
    settings = yaml.safe_load(path.read_text())
    (job,) = settings["scrape_configs"]
    files = {"ca_file": "authority.crt", "cert_file": "client.crt", "key_file": "client.key"}
    job |= {
        "scheme": "https",
        "tls_config": {key: str(folder / name) for key, name in files.items()},
        "basic_auth": {"username": "bob", "password_file": str(folder / "password")},
    }
    path.write_text(yaml.safe_dump(settings))
    with prometheus:
        eventually(lambda: prometheus.vector("up == 1"), "a scrape")
        query = "inferometer_web_config_last_reload_successful == 1"
        eventually(lambda: prometheus.vector(query), query)


CLIENT = """\
basic_auth: {username: bob, password_file: password}
tls_config: {ca_file: authority.crt, cert_file: client.crt, key_file: client.key}
"""


def test_top_shows_what_the_agent_wants_to_see(guarded, folder, capsys):
    """And says what to do where it is not given, or is wrong; never what was given."""
    client = folder / "client.yml"
    client.write_text(CLIENT)
    eventually(lambda: inferometer_here(capsys, "top", guarded.url, "--http.config.file", client)[0] == 0, "a board")
    code, _, said = inferometer_here(capsys, "top", guarded.url)
    assert (code, "TLS: " in said, "--http.config.file FILE says whom to trust" in said) == (2, True, True)
    client.write_text(CLIENT.replace("basic_auth: {username: bob, password_file: password}", ""))
    code, _, said = inferometer_here(capsys, "top", guarded.url, "--http.config.file", client)
    assert (code, "answers 401: it wants to know who asks" in said) == (2, True)
    (folder / "password").write_text("hunter2")
    client.write_text(CLIENT)
    code, out, said = inferometer_here(capsys, "top", guarded.url, "--http.config.file", client)
    assert (code, "answers 401" in said, "hunter2" in out + said) == (2, True, False)
    client.write_text("basic_auth: {username: bob, password: hunter2}\n")
    code, out, said = inferometer_here(capsys, "top", guarded.url, "--http.config.file", client)
    assert code == 1
    assert "basic_auth.password: is never given inline; write it to a file and give password_file" in said
    assert "hunter2" not in said


def test_an_address_with_a_password_is_refused(capsys):
    code, _, said = inferometer_here(capsys, "top", "http://bob:hunter2@localhost:10110")
    assert (code, "hunter2" in said) == (2, False)
    assert "the address carries a name or password; take it out and give --http.config.file FILE" in said


def test_a_client_expects_the_name_it_is_told(guarded, folder, capsys):
    """The certificate is for localhost and 127.0.0.1 alone."""
    client, said = folder / "client.yml", []
    for name in ("localhost", "elsewhere"):
        client.write_text(f"tls_config: {{ca_file: authority.crt, server_name: {name}}}\n")
        said.append(inferometer_here(capsys, "top", guarded.url, "--http.config.file", client)[2])
    assert "hostname mismatch" not in said[0]
    assert "hostname mismatch" in said[1]


def test_a_bad_web_configuration_stops_a_start_and_a_check(folder, capsys):
    path = written(folder, "basic_auth_users: {bob: cleartext}")
    config = folder / "inferometer.yml"
    config.write_text(f"web: {{config_file: {path}}}\n")
    for command in (("check", config), ("run", "--config.file", config), ("run", "--web.config.file", path)):
        code, _, said = inferometer_here(capsys, *command)
        assert code == 1
        assert f"{path}:1: basic_auth_users.bob: must be a password hashed with bcrypt" in said
        assert "cleartext" not in said


def test_only_a_signal_reloads_until_it_is_switched_on(folder):
    """And passwords without TLS are warned of, once."""
    config = folder / "inferometer.yml"
    config.write_text(f"gpu: {{sources: []}}\nweb: {{config_file: {written(folder, '')}}}\n")
    with Agent(folder / "log", "--config.file", config, INFEROMETER_WEB_ENABLE_LIFECYCLE="") as agent:
        assert agent.get("/-/reload", "POST")[0] == agent.get("/-/release", "POST")[0] == 403
        assert "passwords are asked for" not in agent.log
        agent.hangup()
        agent.waits_for("the configuration is loaded again")
        config.write_text(f"{config.read_text()}currency: EUR\n")
        agent.hangup()
        agent.waits_for("currency: stays USD while the agent runs; restart it")
    written(folder, f"basic_auth_users: {{bob: '{hashed('right')}'}}")
    with Agent(folder / "log", "--gpus", "none", "--web.config.file", folder / "web.yml") as agent:
        agent.waits_for("passwords are asked for without TLS: whoever sees the network reads them")
        assert fetch(f"{agent.url}/metrics")[0] == 401
