"""What shows a run's progress."""

import pytest


@pytest.mark.slow
def test_a_notebook_has_a_bar():
    manager = pytest.importorskip("jupyter_client.manager", reason="Jupyter is not installed")
    pytest.importorskip("ipywidgets", reason="ipywidgets is not installed")
    kernel = manager.KernelManager()
    kernel.start_kernel()
    client = kernel.client()
    try:
        client.start_channels()
        client.wait_for_ready(60)
        client.execute(
            "from rlzoo.reports.screen import make_screen\n"
            "screen = make_screen(100)\n"
            "screen.say('Compiling'), screen.show(40, ['9 s left'], ['loss 1']), screen.close()"
        )
        shown = []
        while not shown or shown[-1]["content"].get("execution_state") != "idle":
            shown.append(client.get_iopub_msg(timeout=60))
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
    data = [
        message["content"]["data"] for message in shown if message["msg_type"] == "display_data"
    ]
    assert any("application/vnd.jupyter.widget-view+json" in each for each in data)
    assert any("step 40/100" in each["text/plain"] for each in data)
    assert not [message for message in shown if message["msg_type"] in ("stream", "error")]
