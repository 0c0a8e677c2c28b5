"""State objects: each field's place in its word (virgl_protocol.h), round trips, values that do not fit."""

import dataclasses
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import virgl_const as vc
from protocol import virgl_state as vs
from protocol.errors import PeerError
from protocol.virgl_format import VirglFormat

u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
floats = st.floats(width=32, allow_nan=False)
colors = st.tuples(floats, floats, floats, floats)
formats = st.sampled_from(VirglFormat)
swizzles = st.tuples(*[st.sampled_from(vc.Swizzle)] * 4)


def of(state: type[Any], **given_: Any) -> st.SearchStrategy[Any]:
    """A state with drawn flags and enumerations; other fields by hand."""
    kinds = {field.name: field.default for field in dataclasses.fields(state)}
    drawn = {
        name: st.booleans() if isinstance(default, bool) else st.sampled_from(type(default))
        for name, default in kinds.items()
        if isinstance(default, (bool, vc.IntEnum)) and name not in given_
    }
    return st.builds(state, **drawn, **given_)


masks = st.builds(vc.ColorMask, st.integers(0, 15))
targets = of(vs.BlendTarget, mask=masks)
stencils = of(vs.Stencil, value_mask=u8, write_mask=u8)
blends = of(
    vs.Blend,
    targets=st.lists(targets, min_size=1, max_size=8)
    .map(tuple)
    .filter(lambda t: len(t) == 1 or t[-1] != vs.BlendTarget()),
    logic_op=st.none() | st.sampled_from(vc.LogicOp),
)
rasterizers = of(
    vs.Rasterizer,
    cull_face=st.builds(vc.Face, st.integers(0, 3)),
    point_size=floats,
    sprite_coord_enable=u32,
    line_stipple_pattern=u16,
    line_stipple_factor=u8,
    clip_plane_enable=u8,
    line_width=floats,
    offset_units=floats,
    offset_scale=floats,
    offset_clamp=floats,
)
elements = st.builds(vs.VertexElement, u32, formats, st.integers(0, 31), u32)
samplers = of(
    vs.SamplerState,
    max_anisotropy=st.integers(0, 31),
    lod_bias=floats,
    min_lod=floats,
    max_lod=floats,
    border_color=colors,
)
states = st.one_of(
    blends,
    of(vs.DepthStencilAlpha, alpha_ref=floats, front=stencils, back=stencils),
    rasterizers,
    st.builds(vs.VertexElements, st.lists(elements, max_size=32).map(tuple)),
    samplers,
    st.builds(vs.SamplerView, u32, formats, u16, u16, u8, u8, swizzles, u8),
    st.builds(vs.BufferView, u32, formats, u32, u32, swizzles, u8),
    st.builds(vs.Surface, u32, formats, u32, u16, u16),
    st.builds(vs.Query, st.sampled_from(vc.QueryType), u32, u32, u16),
    st.builds(vs.StreamoutTarget, u32, u32, u32),
)


@given(states)
def test_states_survive_a_round_trip(state: vs.State) -> None:
    assert type(state).parse(state.payload()) == state


@given(st.sampled_from(vs.State.__subclasses__()), st.binary(max_size=180))
def test_noise_is_a_state_or_refused(kind: type[vs.State], noise: bytes) -> None:
    try:
        kind.parse(noise)
    except PeerError:
        return


# One field away from its default, and the bits of the first word that this changes.
RASTERIZER = [
    ({"flatshade": True}, 1 << 0),
    ({"depth_clip": False}, 1 << 1),
    ({"clip_halfz": True}, 1 << 2),
    ({"rasterizer_discard": True}, 1 << 3),
    ({"flatshade_first": True}, 1 << 4),
    ({"light_twoside": True}, 1 << 5),
    ({"sprite_coord_lower_left": True}, 1 << 6),
    ({"point_quad_rasterization": True}, 1 << 7),
    ({"cull_face": vc.Face.BACK}, 2 << 8),
    ({"fill_front": vc.PolygonMode.POINT}, 2 << 10),
    ({"fill_back": vc.PolygonMode.POINT}, 2 << 12),
    ({"scissor": True}, 1 << 14),
    ({"front_ccw": False}, 1 << 15),
    ({"clamp_vertex_color": True}, 1 << 16),
    ({"clamp_fragment_color": True}, 1 << 17),
    ({"offset_line": True}, 1 << 18),
    ({"offset_point": True}, 1 << 19),
    ({"offset_tri": True}, 1 << 20),
    ({"poly_smooth": True}, 1 << 21),
    ({"poly_stipple": True}, 1 << 22),
    ({"point_smooth": True}, 1 << 23),
    ({"point_size_per_vertex": True}, 1 << 24),
    ({"multisample": True}, 1 << 25),
    ({"line_smooth": True}, 1 << 26),
    ({"line_stipple": True}, 1 << 27),
    ({"line_last_pixel": True}, 1 << 28),
    ({"half_pixel_center": False}, 1 << 29),
    ({"bottom_edge_rule": True}, 1 << 30),
    ({"force_persample_interp": True}, 1 << 31),
]


@pytest.mark.parametrize(("change", "bits"), RASTERIZER, ids=lambda value: str(value))
def test_bits_of_a_rasterizer(change: dict[str, Any], bits: int) -> None:
    plain = struct.unpack_from("<I", vs.Rasterizer().payload())[0]
    assert plain == 1 << 1 | 1 << 15 | 1 << 29
    assert struct.unpack_from("<I", vs.Rasterizer(**change).payload())[0] == plain ^ bits


def test_words_of_a_rasterizer() -> None:
    state = vs.Rasterizer(
        point_size=2.0,
        sprite_coord_enable=3,
        line_stipple_pattern=0x1234,
        line_stipple_factor=5,
        clip_plane_enable=6,
        line_width=7.0,
        offset_units=8.0,
        offset_scale=9.0,
        offset_clamp=10.0,
    )
    assert struct.unpack("<IfII4f", state.payload())[1:] == (2.0, 3, 0x06051234, 7.0, 8.0, 9.0, 10.0)


def test_words_of_blending() -> None:
    state = vs.Blend((vs.BlendTarget.over(),), True, vc.LogicOp.COPY, True, True, True)
    first, logic_op, *targets = struct.unpack("<10I", state.payload())
    assert first == 0b11111
    assert logic_op == 12
    assert targets[0] == 1 | 3 << 4 | 0x13 << 9 | 1 << 17 | 0x13 << 22 | 15 << 27
    assert targets[1:] == [1 << 4 | 0x11 << 9 | 1 << 17 | 0x11 << 22 | 15 << 27] * 7


def test_words_of_the_fragment_tests() -> None:
    front = vs.Stencil(True, vc.CompareFunc.LESS, vc.StencilOp.ZERO, vc.StencilOp.INCR, vc.StencilOp.INVERT, 0x55, 0xAA)
    state = vs.DepthStencilAlpha(True, True, vc.CompareFunc.LEQUAL, True, vc.CompareFunc.GREATER, 0.5, front)
    first, one, other, alpha_ref = struct.unpack("<3If", state.payload())
    assert first == 1 | 1 << 1 | 3 << 2 | 1 << 8 | 4 << 9
    assert one == 1 | 1 << 1 | 1 << 4 | 3 << 7 | 7 << 10 | 0x55 << 13 | 0xAA << 21
    assert other == 7 << 1 | 0xFF << 13 | 0xFF << 21
    assert alpha_ref == 0.5


def test_words_of_a_sampler() -> None:
    state = vs.SamplerState(
        vc.TexWrap.CLAMP,
        vc.TexWrap.CLAMP_TO_EDGE,
        vc.TexWrap.MIRROR_REPEAT,
        vc.TexFilter.LINEAR,
        vc.MipFilter.LINEAR,
        vc.TexFilter.LINEAR,
        True,
        vc.CompareFunc.LEQUAL,
        True,
        16,
        1.0,
        2.0,
        3.0,
        (4.0, 5.0, 6.0, 7.0),
    )
    first, *rest = struct.unpack("<I7f", state.payload())
    assert first == 1 | 2 << 3 | 4 << 6 | 1 << 9 | 1 << 11 | 1 << 13 | 1 << 15 | 3 << 16 | 1 << 19 | 16 << 20
    assert rest == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]


def test_words_of_views_and_surfaces() -> None:
    swizzle = (vc.Swizzle.BLUE, vc.Swizzle.GREEN, vc.Swizzle.RED, vc.Swizzle.ONE)
    view = vs.SamplerView(7, VirglFormat.R8_UNORM, 1, 2, 3, 4, swizzle, vc.Target.TEXTURE_2D)
    assert struct.unpack("<5I", view.payload()) == (7, 64 | 2 << 24, 1 | 2 << 16, 3 | 4 << 8, 2 | 1 << 3 | 5 << 9)
    buffer = vs.BufferView(7, VirglFormat.R32_FLOAT, 1, 99)
    assert struct.unpack("<5I", buffer.payload()) == (7, 28, 1, 99, 1 << 3 | 2 << 6 | 3 << 9)
    surface = vs.Surface(7, VirglFormat.B8G8R8A8_UNORM, 1, 2, 3)
    assert struct.unpack("<4I", surface.payload()) == (7, 1, 1, 2 | 3 << 16)


def test_words_of_the_others() -> None:
    elements = vs.VertexElements((vs.VertexElement(16, VirglFormat.R32G32B32A32_FLOAT, 2, 3),))
    assert struct.unpack("<4I", elements.payload()) == (16, 3, 2, 31)
    assert struct.unpack("<3I", vs.Query(vc.QueryType.TIMESTAMP, 7, 8, 9).payload()) == (2 | 9 << 16, 8, 7)
    assert struct.unpack("<3I", vs.StreamoutTarget(1, 2, 3).payload()) == (1, 2, 3)


@pytest.mark.parametrize(
    "state",
    [
        vs.Blend((vs.BlendTarget(),) * 9),
        vs.Rasterizer(line_stipple_factor=256),
        vs.Rasterizer(sprite_coord_enable=-1),
        vs.Rasterizer(line_width=1e39),
        vs.DepthStencilAlpha(front=vs.Stencil(value_mask=256)),
        vs.VertexElements((vs.VertexElement(0, VirglFormat.R32_FLOAT),) * 33),
        vs.VertexElements((vs.VertexElement(0, VirglFormat.R32_FLOAT, 32),)),
        vs.VertexElements((vs.VertexElement(1 << 32, VirglFormat.R32_FLOAT),)),
        vs.Surface(1, VirglFormat.R8_UNORM, 0, 65536),
        vs.SamplerView(1, VirglFormat.R8_UNORM, first_level=256),
        vs.SamplerState(max_anisotropy=32),
    ],
    ids=lambda state: str(state)[:40],
)
def test_what_does_not_fit_is_refused(state: vs.State) -> None:
    with pytest.raises(ValueError, match=r"\d"):
        state.payload()


def test_numbers_without_a_name_stay_numbers() -> None:
    surface = vs.Surface.parse(struct.pack("<4I", 1, 9999, 0, 0))
    assert surface.format == 9999
    assert not isinstance(surface.format, VirglFormat)
