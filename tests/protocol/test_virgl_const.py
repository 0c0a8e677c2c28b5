"""VirGL's numbers: anchors of virgl_protocol.h, virgl_hw.h and p_defines.h, and no gaps where those have none."""

from enum import IntEnum

import pytest

from protocol import virgl_const as vc

# The last member of each enumeration that counts up from 0 without gaps, with its number in the headers.
LAST = [
    (vc.Command.GET_PIPE_RESOURCE_LAYOUT, 63),
    (vc.ObjectType.MSAA_SURFACE, 11),
    (vc.ShaderType.COMPUTE, 5),
    (vc.PolygonMode.POINT, 2),
    (vc.Primitive.PATCHES, 14),
    (vc.BlendFunc.MAX, 4),
    (vc.LogicOp.SET, 15),
    (vc.CompareFunc.ALWAYS, 7),
    (vc.StencilOp.INVERT, 7),
    (vc.Target.TEXTURE_CUBE_ARRAY, 8),
    (vc.TexWrap.MIRROR_CLAMP_TO_BORDER, 7),
    (vc.TexFilter.LINEAR, 1),
    (vc.MipFilter.NONE, 2),
    (vc.Swizzle.ONE, 5),
    (vc.QueryType.SO_OVERFLOW_ANY_PREDICATE, 12),
    (vc.QueryState.WAIT_HOST, 2),
    (vc.ResultType.U64, 3),
    (vc.RenderCondition.BY_REGION_NO_WAIT, 3),
    (vc.Tweak.GLES_TF3_SAMPLES_PASSES_MULTIPLIER, 2),
]
# Numbers in the middle of an enumeration, which a line too many or too few above them would move.
ANCHORS = [
    (vc.Command.CREATE_OBJECT, 1),
    (vc.Command.SET_VERTEX_BUFFERS, 6),
    (vc.Command.DRAW_VBO, 8),
    (vc.Command.SET_CONSTANT_BUFFER, 12),
    (vc.Command.BLIT, 16),
    (vc.Command.SET_SUB_CTX, 28),
    (vc.Command.BIND_SHADER, 31),
    (vc.Command.TRANSFER3D, 43),
    (vc.Command.SET_TWEAKS, 46),
    (vc.Command.SEND_STRING_MARKER, 51),
    (vc.ObjectType.SHADER, 4),
    (vc.ObjectType.SURFACE, 8),
    (vc.ShaderType.FRAGMENT, 1),
    (vc.PolygonMode.FILL, 0),
    (vc.Primitive.TRIANGLE_FAN, 6),
    (vc.BlendFactor.SRC_ALPHA, 3),
    (vc.BlendFactor.SRC1_ALPHA, 10),
    (vc.BlendFactor.ZERO, 0x11),
    (vc.BlendFactor.INV_SRC_ALPHA, 0x13),
    (vc.BlendFactor.INV_DST_COLOR, 0x15),
    (vc.BlendFactor.INV_CONST_COLOR, 0x17),
    (vc.BlendFactor.INV_SRC1_ALPHA, 0x1A),
    (vc.LogicOp.COPY, 12),
    (vc.CompareFunc.LEQUAL, 3),
    (vc.TexWrap.CLAMP_TO_EDGE, 2),
    (vc.TransferDirection.TO_HOST, 1),
    (vc.TransferDirection.FROM_HOST, 2),
    (vc.Bind.RENDER_TARGET, 1 << 1),
    (vc.Bind.SAMPLER_VIEW, 1 << 3),
    (vc.Bind.COMMAND_ARGS, 1 << 8),
    (vc.Bind.STREAM_OUTPUT, 1 << 11),
    (vc.Bind.SHADER_BUFFER, 1 << 14),
    (vc.Bind.CUSTOM, 1 << 17),
    (vc.Bind.SCANOUT, 1 << 18),
    (vc.Bind.STAGING, 1 << 19),
    (vc.Bind.SHARED, 1 << 20),
    (vc.ResourceFlag.Y_0_TOP, 1),
    (vc.ClearBuffer.COLOR0, 4),
    (vc.ClearBuffer.COLOR, 0x3FC),
    (vc.ColorMask.RGBA, 15),
    (vc.Barrier.ALL, 0x3FFF),
    (vc.Usage.DISCARD_WHOLE_RESOURCE, 1 << 12),
]


@pytest.mark.parametrize(("member", "number"), ANCHORS, ids=lambda value: str(value))
def test_numbers_are_those_of_the_headers(member: int, number: int) -> None:
    assert member == number


@pytest.mark.parametrize(("last", "number"), LAST, ids=lambda value: str(value))
def test_enumerations_have_no_gaps(last: IntEnum, number: int) -> None:
    assert last == number
    assert list(type(last)) == list(range(number + 1))
