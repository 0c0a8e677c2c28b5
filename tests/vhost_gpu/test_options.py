"""Options: what a session is told of them."""

from vhost_gpu.options import Options


def test_session_config():
    options = Options(
        max_outputs=3, resolution=(64, 48), max_hostmem=5, poll_us=7, log_level="error", log_format="journal"
    )
    config = options.session_config("session-7")
    assert (config.name, config.max_outputs, config.resolution) == ("session-7", 3, (64, 48))
    assert (config.max_hostmem, config.poll_us, config.log_level, config.log_format) == (5, 7, "error", "journal")


def test_session_config_of_3d():
    config = Options(virgl=True, render_node="/dev/dri/renderD129").session_config("session-1")
    assert (config.virgl, config.render_node) == (True, "/dev/dri/renderD129")
    assert Options(trace="t").session_config("session-1").trace == "t"
    config = Options().session_config("session-1")
    assert (config.virgl, config.render_node) == (False, None)
