"""What a field must be, in one sentence: of a union, pydantic tells of every form that it tried."""

from typing import Any

from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError

SENTENCE = "sentence"  # the type of such a problem; its text follows the field's name


def sentence(text: str) -> WrapValidator:
    """All that is wrong with a field's value is this."""

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            raise PydanticCustomError(SENTENCE, "{text}", {"text": text}) from error

    return WrapValidator(check)
