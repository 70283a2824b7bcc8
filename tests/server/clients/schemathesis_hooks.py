"""Names a model that is there, or most of what schemathesis invents would end at a 404; and keeps
it from unloading the one that the rest needs.
"""
# pyright: reportMissingImports=false
# (an extra, which is not there everywhere)

from typing import Any

import schemathesis


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
        case.body["model"] = "nothing" if case.path == "/admin/models/unload" else "demo"
