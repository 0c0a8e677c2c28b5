"""VirGL's numbers: commands, objects, formats and the values of their fields.

The same as in virglrenderer's virgl_protocol.h (VIRGL_CCMD_*, VIRGL_OBJECT_*), virgl_hw.h (VIRGL_FORMAT_*,
VIRGL_BIND_*, VIRGL_RESOURCE_*) and Gallium's pipe/p_defines.h (PIPE_*), where each enumeration says which.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

MAX_COMMAND_WORDS = 0xFFFF
"""Words (32 bits) after a command's header: its length field has 16 bits."""
MAX_COLOR_BUFFERS = 8
"""VIRGL_MAX_COLOR_BUFS: colour buffers of a framebuffer."""
MAX_CLIP_PLANES = 8
"""VIRGL_MAX_CLIP_PLANES."""
MAX_VIEWPORTS = 16
"""PIPE_MAX_VIEWPORTS."""
MAX_ATTRIBUTES = 32
"""PIPE_MAX_ATTRIBS: vertex elements, and vertex buffers."""
MAX_SAMPLERS = 32
"""PIPE_MAX_SAMPLERS, PIPE_MAX_SHADER_SAMPLER_VIEWS: of one shader stage."""
MAX_CONSTANT_BUFFERS = 32
"""PIPE_MAX_CONSTANT_BUFFERS: of one shader stage."""
MAX_SHADER_RESOURCES = 32
"""PIPE_MAX_SHADER_BUFFERS, PIPE_MAX_SHADER_IMAGES, PIPE_MAX_HW_ATOMIC_BUFFERS."""
MAX_STREAM_BUFFERS = 4
"""PIPE_MAX_SO_BUFFERS: targets of transform feedback."""
MAX_STREAM_OUTPUTS = 64
"""PIPE_MAX_SO_OUTPUTS: outputs that one shader gives to transform feedback."""


class Command(IntEnum):
    """VIRGL_CCMD_*: commands of a context's stream."""

    NOP = 0
    CREATE_OBJECT = 1
    BIND_OBJECT = 2
    DESTROY_OBJECT = 3
    SET_VIEWPORT_STATE = 4
    SET_FRAMEBUFFER_STATE = 5
    SET_VERTEX_BUFFERS = 6
    CLEAR = 7
    DRAW_VBO = 8
    RESOURCE_INLINE_WRITE = 9
    SET_SAMPLER_VIEWS = 10
    SET_INDEX_BUFFER = 11
    SET_CONSTANT_BUFFER = 12
    SET_STENCIL_REF = 13
    SET_BLEND_COLOR = 14
    SET_SCISSOR_STATE = 15
    BLIT = 16
    RESOURCE_COPY_REGION = 17
    BIND_SAMPLER_STATES = 18
    BEGIN_QUERY = 19
    END_QUERY = 20
    GET_QUERY_RESULT = 21
    SET_POLYGON_STIPPLE = 22
    SET_CLIP_STATE = 23
    SET_SAMPLE_MASK = 24
    SET_STREAMOUT_TARGETS = 25
    SET_RENDER_CONDITION = 26
    SET_UNIFORM_BUFFER = 27
    SET_SUB_CTX = 28
    CREATE_SUB_CTX = 29
    DESTROY_SUB_CTX = 30
    BIND_SHADER = 31
    SET_TESS_STATE = 32
    SET_MIN_SAMPLES = 33
    SET_SHADER_BUFFERS = 34
    SET_SHADER_IMAGES = 35
    MEMORY_BARRIER = 36
    LAUNCH_GRID = 37
    SET_FRAMEBUFFER_STATE_NO_ATTACH = 38
    TEXTURE_BARRIER = 39
    SET_ATOMIC_BUFFERS = 40
    SET_DEBUG_FLAGS = 41
    GET_QUERY_RESULT_QBO = 42
    TRANSFER3D = 43
    END_TRANSFERS = 44
    COPY_TRANSFER3D = 45
    SET_TWEAKS = 46
    CLEAR_TEXTURE = 47
    PIPE_RESOURCE_CREATE = 48
    PIPE_RESOURCE_SET_TYPE = 49
    GET_MEMORY_INFO = 50
    SEND_STRING_MARKER = 51
    LINK_SHADER = 52
    CREATE_VIDEO_CODEC = 53
    DESTROY_VIDEO_CODEC = 54
    CREATE_VIDEO_BUFFER = 55
    DESTROY_VIDEO_BUFFER = 56
    BEGIN_FRAME = 57
    DECODE_MACROBLOCK = 58
    DECODE_BITSTREAM = 59
    ENCODE_BITSTREAM = 60
    END_FRAME = 61
    CLEAR_SURFACE = 62
    GET_PIPE_RESOURCE_LAYOUT = 63


class ObjectType(IntEnum):
    """VIRGL_OBJECT_*: kinds of objects; all kinds of a sub-context share one space of handles."""

    NULL = 0
    BLEND = 1
    RASTERIZER = 2
    DSA = 3
    """Depth, stencil and alpha test."""
    SHADER = 4
    VERTEX_ELEMENTS = 5
    SAMPLER_VIEW = 6
    SAMPLER_STATE = 7
    SURFACE = 8
    QUERY = 9
    STREAMOUT_TARGET = 10
    MSAA_SURFACE = 11


class ShaderType(IntEnum):
    """enum virgl_shader_stage (PIPE_SHADER_*)."""

    VERTEX = 0
    FRAGMENT = 1
    GEOMETRY = 2
    TESS_CTRL = 3
    TESS_EVAL = 4
    COMPUTE = 5


class PolygonMode(IntEnum):
    """PIPE_POLYGON_MODE_*: what is drawn of a polygon."""

    FILL = 0
    LINE = 1
    """Its edges."""
    POINT = 2
    """Its corners."""


class Face(IntFlag):
    """PIPE_FACE_*: sides of polygons, for culling."""

    NONE = 0
    FRONT = 1
    BACK = 2
    FRONT_AND_BACK = 3


class Primitive(IntEnum):
    """PIPE_PRIM_*: what vertices make."""

    POINTS = 0
    LINES = 1
    LINE_LOOP = 2
    LINE_STRIP = 3
    TRIANGLES = 4
    TRIANGLE_STRIP = 5
    TRIANGLE_FAN = 6
    QUADS = 7
    QUAD_STRIP = 8
    POLYGON = 9
    LINES_ADJACENCY = 10
    LINE_STRIP_ADJACENCY = 11
    TRIANGLES_ADJACENCY = 12
    TRIANGLE_STRIP_ADJACENCY = 13
    PATCHES = 14


class BlendFactor(IntEnum):
    """PIPE_BLENDFACTOR_*."""

    ONE = 1
    SRC_COLOR = 2
    SRC_ALPHA = 3
    DST_ALPHA = 4
    DST_COLOR = 5
    SRC_ALPHA_SATURATE = 6
    CONST_COLOR = 7
    CONST_ALPHA = 8
    SRC1_COLOR = 9
    SRC1_ALPHA = 10
    ZERO = 0x11
    INV_SRC_COLOR = 0x12
    INV_SRC_ALPHA = 0x13
    INV_DST_ALPHA = 0x14
    INV_DST_COLOR = 0x15
    INV_CONST_COLOR = 0x17
    INV_CONST_ALPHA = 0x18
    INV_SRC1_COLOR = 0x19
    INV_SRC1_ALPHA = 0x1A


class BlendFunc(IntEnum):
    """PIPE_BLEND_*."""

    ADD = 0
    SUBTRACT = 1
    REVERSE_SUBTRACT = 2
    MIN = 3
    MAX = 4


class LogicOp(IntEnum):
    """PIPE_LOGICOP_*."""

    CLEAR = 0
    NOR = 1
    AND_INVERTED = 2
    COPY_INVERTED = 3
    AND_REVERSE = 4
    INVERT = 5
    XOR = 6
    NAND = 7
    AND = 8
    EQUIV = 9
    NOOP = 10
    OR_INVERTED = 11
    COPY = 12
    OR_REVERSE = 13
    OR = 14
    SET = 15


class ColorMask(IntFlag):
    """PIPE_MASK_R to PIPE_MASK_S: channels; a blit also names depth and stencil."""

    R = 0x01
    G = 0x02
    B = 0x04
    A = 0x08
    RGBA = 0x0F
    Z = 0x10
    S = 0x20


class CompareFunc(IntEnum):
    """PIPE_FUNC_*: tests of depth, stencil, alpha, shadow."""

    NEVER = 0
    LESS = 1
    EQUAL = 2
    LEQUAL = 3
    GREATER = 4
    NOTEQUAL = 5
    GEQUAL = 6
    ALWAYS = 7


class StencilOp(IntEnum):
    """PIPE_STENCIL_OP_*."""

    KEEP = 0
    ZERO = 1
    REPLACE = 2
    INCR = 3
    DECR = 4
    INCR_WRAP = 5
    DECR_WRAP = 6
    INVERT = 7


class Target(IntEnum):
    """PIPE_BUFFER, PIPE_TEXTURE_*: shapes of a resource."""

    BUFFER = 0
    TEXTURE_1D = 1
    TEXTURE_2D = 2
    TEXTURE_3D = 3
    TEXTURE_CUBE = 4
    TEXTURE_RECT = 5
    TEXTURE_1D_ARRAY = 6
    TEXTURE_2D_ARRAY = 7
    TEXTURE_CUBE_ARRAY = 8


class Bind(IntFlag):
    """VIRGL_BIND_*: what a resource is used for."""

    DEPTH_STENCIL = 1 << 0
    RENDER_TARGET = 1 << 1
    SAMPLER_VIEW = 1 << 3
    VERTEX_BUFFER = 1 << 4
    INDEX_BUFFER = 1 << 5
    CONSTANT_BUFFER = 1 << 6
    DISPLAY_TARGET = 1 << 7
    COMMAND_ARGS = 1 << 8
    STREAM_OUTPUT = 1 << 11
    SHADER_BUFFER = 1 << 14
    QUERY_BUFFER = 1 << 15
    CURSOR = 1 << 16
    CUSTOM = 1 << 17
    SCANOUT = 1 << 18
    STAGING = 1 << 19
    """Guest memory that the host only reads."""
    SHARED = 1 << 20
    LINEAR = 1 << 22


class ResourceFlag(IntFlag):
    """VIRGL_RESOURCE_*: of RESOURCE_CREATE_3D."""

    Y_0_TOP = 1 << 0
    """Row 0 is the upper one, as on a scanout."""
    MAP_PERSISTENT = 1 << 1
    MAP_COHERENT = 1 << 2


class TexWrap(IntEnum):
    """PIPE_TEX_WRAP_*."""

    REPEAT = 0
    CLAMP = 1
    CLAMP_TO_EDGE = 2
    CLAMP_TO_BORDER = 3
    MIRROR_REPEAT = 4
    MIRROR_CLAMP = 5
    MIRROR_CLAMP_TO_EDGE = 6
    MIRROR_CLAMP_TO_BORDER = 7


class TexFilter(IntEnum):
    """PIPE_TEX_FILTER_*: inside a mipmap; of a blit too."""

    NEAREST = 0
    LINEAR = 1


class MipFilter(IntEnum):
    """PIPE_TEX_MIPFILTER_*: between mipmaps."""

    NEAREST = 0
    LINEAR = 1
    NONE = 2


class Swizzle(IntEnum):
    """PIPE_SWIZZLE_*: where a channel of a sampler view comes from."""

    RED = 0
    GREEN = 1
    BLUE = 2
    ALPHA = 3
    ZERO = 4
    ONE = 5


class ClearBuffer(IntFlag):
    """PIPE_CLEAR_*: which buffers of the framebuffer."""

    DEPTH = 1 << 0
    STENCIL = 1 << 1
    COLOR0 = 1 << 2
    COLOR1 = 1 << 3
    COLOR2 = 1 << 4
    COLOR3 = 1 << 5
    COLOR4 = 1 << 6
    COLOR5 = 1 << 7
    COLOR6 = 1 << 8
    COLOR7 = 1 << 9
    COLOR = 0x3FC
    """All colour buffers."""


class QueryType(IntEnum):
    """PIPE_QUERY_*."""

    OCCLUSION_COUNTER = 0
    OCCLUSION_PREDICATE = 1
    TIMESTAMP = 2
    TIMESTAMP_DISJOINT = 3
    TIME_ELAPSED = 4
    PRIMITIVES_GENERATED = 5
    PRIMITIVES_EMITTED = 6
    SO_STATISTICS = 7
    SO_OVERFLOW_PREDICATE = 8
    GPU_FINISHED = 9
    PIPELINE_STATISTICS = 10
    OCCLUSION_PREDICATE_CONSERVATIVE = 11
    SO_OVERFLOW_ANY_PREDICATE = 12


class QueryState(IntEnum):
    """VIRGL_QUERY_STATE_*: first word of struct virgl_host_query_state, which a query's buffer holds."""

    NEW = 0
    DONE = 1
    WAIT_HOST = 2


class ResultType(IntEnum):
    """enum pipe_query_value_type: how a result is written into a buffer."""

    I32 = 0
    U32 = 1
    I64 = 2
    U64 = 3


class RenderCondition(IntEnum):
    """PIPE_RENDER_COND_*: whether to wait for a query's result before drawing."""

    WAIT = 0
    NO_WAIT = 1
    BY_REGION_WAIT = 2
    BY_REGION_NO_WAIT = 3


class TransferDirection(IntEnum):
    """VIRGL_TRANSFER_TO_HOST, VIRGL_TRANSFER_FROM_HOST."""

    TO_HOST = 1
    FROM_HOST = 2


class CopyTransferFlag(IntFlag):
    """VIRGL_COPY_TRANSFER3D_FLAGS_*."""

    SYNCHRONIZED = 1 << 0
    READ_FROM_HOST = 1 << 1
    """From the resource to the staging buffer, not the other way."""


class Usage(IntFlag):
    """PIPE_TRANSFER_*: how a transfer touches the resource; renderers need none."""

    READ = 1 << 0
    WRITE = 1 << 1
    DISCARD_RANGE = 1 << 8
    UNSYNCHRONIZED = 1 << 10
    DISCARD_WHOLE_RESOURCE = 1 << 12


class ImageAccess(IntFlag):
    """PIPE_IMAGE_ACCESS_*."""

    READ = 1 << 0
    WRITE = 1 << 1


class Barrier(IntFlag):
    """PIPE_BARRIER_*: of MEMORY_BARRIER."""

    MAPPED_BUFFER = 1 << 0
    SHADER_BUFFER = 1 << 1
    QUERY_BUFFER = 1 << 2
    VERTEX_BUFFER = 1 << 3
    INDEX_BUFFER = 1 << 4
    CONSTANT_BUFFER = 1 << 5
    INDIRECT_BUFFER = 1 << 6
    TEXTURE = 1 << 7
    IMAGE = 1 << 8
    FRAMEBUFFER = 1 << 9
    STREAMOUT_BUFFER = 1 << 10
    GLOBAL_BUFFER = 1 << 11
    UPDATE_BUFFER = 1 << 12
    UPDATE_TEXTURE = 1 << 13
    ALL = (1 << 14) - 1


class TextureBarrier(IntFlag):
    """PIPE_TEXTURE_BARRIER_*."""

    SAMPLER = 1 << 0
    FRAMEBUFFER = 1 << 1


class Tweak(IntEnum):
    """enum vrend_tweak_type: settings for one application."""

    GLES_BGRA_EMULATE = 0
    GLES_BGRA_APPLY_DEST_SWIZZLE = 1
    GLES_TF3_SAMPLES_PASSES_MULTIPLIER = 2
