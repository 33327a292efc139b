"""What a page may send: everything bounded, everything checked before it is kept."""

from typing import Annotated, Literal

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, TypeAdapter

# One message; an output of float32 in base64 is 350 kB.
MOST_BYTES = 2**20

Milliseconds = Annotated[float, Field(gt=0, le=3.6e6, allow_inf_nan=False)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Hello(_Message):
    """A page has opened, or was loaded again.

    Args:
        user_agent: As the browser calls itself.
        threads: That the runtime will use.
        build: Of the runtime's WebAssembly.
        secure: Whether the page is a secure context, without which there are no threads.
        cores: That the browser tells of.
        clock_step_ms: Smallest step of the browser's clock.
    """

    kind: Literal["hello"]
    user_agent: Annotated[str, Field(max_length=500)]
    threads: Annotated[int, Field(ge=1, le=256)]
    build: Literal["threaded", "plain", "compat"]
    secure: bool
    cores: Annotated[int, Field(ge=1, le=4096)]
    clock_step_ms: Annotated[float, Field(gt=0, le=1000)]

    @property
    def runtime(self) -> tuple[str, str, int]:
        """What times depend on, the phone itself apart."""
        return self.user_agent, self.build, self.threads


class Output(_Message):
    """What a file made of its inputs.

    Args:
        file: Its place among the files.
        output: The output's place among those of the file.
        values: Every `stride`-th value, the array's own type, little-endian.
    """

    kind: Literal["output"]
    file: Annotated[int, Field(ge=0)]
    output: Annotated[int, Field(ge=0)]
    values: Base64Bytes


class Turns(_Message):
    """Timings as they come.

    Args:
        first: Place of the first of these turns.
        times_ms: One row per turn, one time per file: of one inference.
    """

    kind: Literal["turns"]
    first: Annotated[int, Field(ge=0)]
    times_ms: Annotated[list[list[Milliseconds]], Field(max_length=1000)]


class Failed(_Message):
    """The page cannot go on; `message` says why."""

    kind: Literal["failed"]
    message: Annotated[str, Field(max_length=2000)]


Message = Hello | Output | Turns | Failed

#: Reads one message from JSON; raises pydantic's ValidationError.
MESSAGE: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="kind")])
