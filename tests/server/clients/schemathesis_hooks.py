"""Names a model that is there, or most of what schemathesis invents would end at a 404."""
# pyright: reportMissingImports=false
# (an extra, which is not there everywhere)

from typing import Any

import schemathesis


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    is_unload = case.path == "/admin/models/unload"  # the rest needs it
    if isinstance(case.body, dict) and isinstance(case.body.get("model"), str) and not is_unload:
        case.body["model"] = "demo"
