"""The numbers of a glTF file: buffers, views and accessors, as they are and compressed."""

import base64
import binascii
import struct
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import numpy as np

from pipeline.assets.bundle import Bundle
from pipeline.assets.reasons import Broken, Missing
from pipeline.assets.references import GLB_MAGIC, entries

MOST_ELEMENTS = 1 << 24
"""Of an accessor: a count is looked at before memory is taken for it."""
_TYPES = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_COLUMNS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_MESHOPT = ("EXT_meshopt_compression", "KHR_meshopt_compression")
_BINARY_CHUNK = 0x004E4942


class Accessors:
    """Numbers by index, each read when it is asked for; Broken where the file does not hold what it says."""

    def __init__(self, bundle: Bundle, header: Mapping[str, Any]) -> None:
        self.bundle = bundle
        self.accessors, self.views = entries(header, "accessors"), entries(header, "bufferViews")
        self.buffers = entries(header, "buffers")
        self._unpacked: dict[int, np.ndarray] = {}

    def array(self, index: object) -> np.ndarray:
        """An accessor (N, columns) as float64 or, where it is of whole numbers and not normalised, as int64."""
        return self._values(index, None)

    def rows(self, index: object, taken: np.ndarray) -> np.ndarray:
        """Some rows of an accessor, without memory for the others."""
        return self._values(index, taken)

    def count(self, index: object) -> int:
        """The number of an accessor's rows, as the header has it."""
        count = _of(self.accessors, index, "accessor").get("count")
        if not isinstance(count, int) or not 0 <= count <= MOST_ELEMENTS:
            raise Broken(f"accessor {index} has the count {str(count)[:20]}")
        return count

    def _values(self, index: object, taken: np.ndarray | None) -> np.ndarray:
        accessor, count = _of(self.accessors, index, "accessor"), self.count(index)
        kind, columns = _TYPES.get(accessor.get("componentType", 0)), _COLUMNS.get(accessor.get("type", ""))
        if kind is None or columns is None:
            raise Broken(f"accessor {index} is of no known type")
        if "bufferView" in accessor:
            found = self._matrix(accessor["bufferView"], accessor.get("byteOffset", 0), count, columns, kind)
        else:
            found = np.broadcast_to(np.zeros((), kind), (count, columns))
        if isinstance(sparse := accessor.get("sparse"), dict):
            found = self._with_sparse(found, sparse, columns, kind)
        if taken is not None:
            if len(taken) and taken.max() >= count:
                raise Broken("faces refer to vertices that do not exist")
            found = found[taken]
        return _plain(found, bool(accessor.get("normalized")))

    def _with_sparse(self, found: np.ndarray, sparse: Mapping[str, Any], columns: int, kind: str) -> np.ndarray:
        indices, values, count = sparse.get("indices"), sparse.get("values"), sparse.get("count")
        if not isinstance(indices, dict) or not isinstance(values, dict) or not isinstance(count, int):
            raise Broken("a sparse accessor without indices or values")
        places = self._matrix(
            indices.get("bufferView"),
            indices.get("byteOffset", 0),
            count,
            1,
            _TYPES.get(indices["componentType"], "u1"),
        )[:, 0]
        if len(places) and places.max() >= len(found):
            raise Broken("a sparse accessor that leads beyond its end")
        found = found.copy()
        found[places] = self._matrix(values.get("bufferView"), values.get("byteOffset", 0), count, columns, kind)
        return found

    def _matrix(self, index: object, offset: object, count: int, columns: int, kind: str) -> np.ndarray:
        """Rows (count, columns) of a view, which may have other things between them; nothing is copied."""
        data, stride = self._view(index)
        size = np.dtype(kind).itemsize * columns
        stride = stride or size
        if not isinstance(offset, int) or offset < 0 or stride < size or not 0 <= count <= MOST_ELEMENTS:
            raise Broken("a view with an impossible offset, stride or count")
        if count and offset + (count - 1) * stride + size > len(data):
            raise Broken("a buffer that is shorter than the header says")
        return (
            np.ndarray((count, columns), kind, data, offset, (stride, np.dtype(kind).itemsize))
            if count
            else (np.zeros((0, columns), kind))
        )

    def _view(self, index: object) -> tuple[np.ndarray, int]:
        """The bytes of a view, and its stride, 0 where it has none."""
        view = _of(self.views, index, "bufferView")
        extensions = view.get("extensions")
        packed = next((extensions[name] for name in _MESHOPT if name in extensions), None) if extensions else None
        if packed is not None and isinstance(index, int):
            if index not in self._unpacked:
                self._unpacked[index] = self._meshopt(packed)
            return self._unpacked[index], int(packed.get("byteStride", 0))
        stride = view.get("byteStride", 0)
        return self._span(view), stride if isinstance(stride, int) and stride > 0 else 0

    def _span(self, view: Mapping[str, Any]) -> np.ndarray:
        data = self._buffer(view.get("buffer"))
        start, length = view.get("byteOffset", 0), view.get("byteLength", 0)
        if not isinstance(start, int) or not isinstance(length, int) or not 0 <= start <= start + length <= len(data):
            raise Broken("a buffer that is shorter than the header says")
        return np.frombuffer(data, np.uint8, length, start)

    def view_bytes(self, index: object) -> bytes:
        """The bytes of a view, such as a picture's."""
        return self._view(index)[0].tobytes()

    def _buffer(self, index: object) -> bytes | memoryview:
        buffer = _of(self.buffers, index, "buffer")
        uri = buffer.get("uri")
        if isinstance(uri, str):
            return self.uri(uri)
        contents = self.bundle.files[self.bundle.main]
        if contents[:4] != GLB_MAGIC or index != 0:
            raise Broken("a buffer without contents")
        place = 20 + struct.unpack_from("<I", contents, 12)[0]
        while place + 8 <= len(contents):
            length, kind = struct.unpack_from("<II", contents, place)
            if kind == _BINARY_CHUNK:
                return memoryview(contents)[place + 8 : place + 8 + length]
            place += 8 + length
        raise Broken("a buffer without contents")

    def draco(
        self, packed: Mapping[str, Any], accessors: Mapping[str, Any]
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Triangles (T, 3) and attributes by name that were packed by KHR_draco_mesh_compression."""
        import DracoPy  # few files are packed so

        names = packed.get("attributes")
        try:
            mesh = DracoPy.decode(self.view_bytes(packed.get("bufferView")))
            found = {
                name: np.asarray(mesh.get_attribute_by_unique_id(number)["data"])
                for name, number in (names if isinstance(names, dict) else {}).items()
            }
            triangles = np.asarray(mesh.faces, np.int64).reshape(-1, 3)
        except Exception:  # over broken data, DracoPy raises whatever comes
            raise Broken("a mesh of KHR_draco_mesh_compression that cannot be unpacked") from None
        normalised = {
            name: bool(_of(self.accessors, index, "accessor").get("normalized")) for name, index in accessors.items()
        }
        return triangles, {
            name: _plain(values.reshape(len(values), -1), normalised.get(name, False)) for name, values in found.items()
        }

    def uri(self, uri: str) -> bytes:
        """The bytes of a reference: of a file of the bundle, or those that it carries itself."""
        if uri.startswith("data:"):
            try:
                return base64.b64decode(unquote(uri.partition(",")[2]), validate=True)
            except binascii.Error:
                raise Broken("a data URI that is no base64") from None
        data = self.bundle.find(unquote(uri), uri)
        if data is None:
            raise Missing(f"missing {uri[:80]}")
        return data

    def _meshopt(self, packed: Mapping[str, Any]) -> np.ndarray:
        """The bytes of a view that was packed by EXT_meshopt_compression."""
        import meshoptimizer  # few files are packed so

        count, stride, mode = packed.get("count"), packed.get("byteStride"), packed.get("mode")
        if not isinstance(count, int) or not isinstance(stride, int) or not 0 <= count <= MOST_ELEMENTS:
            raise Broken("a packed view with an impossible count")
        data = self._span(packed).tobytes()
        try:
            if mode == "ATTRIBUTES":
                flat = meshoptimizer.decode_vertex_buffer(count, stride, data, np.dtype(("V", stride)))
                name = packed.get("filter", "NONE").lower()
                if name != "none":
                    flat = getattr(meshoptimizer, _FILTERS[name])(flat, count, stride)
                return np.ascontiguousarray(flat).view(np.uint8).reshape(-1)
            if stride not in (2, 4) or (mode == "TRIANGLES" and count % 3):
                raise ValueError
            decode = meshoptimizer.decode_index_buffer if mode == "TRIANGLES" else meshoptimizer.decode_index_sequence
            return np.asarray(decode(count, 4, data).astype(f"<u{stride}")).view(np.uint8)
        except (RuntimeError, ValueError, KeyError, TypeError):
            raise Broken("a view of EXT_meshopt_compression that cannot be unpacked") from None


_FILTERS = {
    "octahedral": "decode_filter_oct",
    "quaternion": "decode_filter_quat",
    "exponential": "decode_filter_exp",
}


def _of(listed: list[dict[str, Any]], index: object, what: str) -> dict[str, Any]:
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(listed):
        raise Broken(f"a reference to the {what} {str(index)[:20]}, which is not there")
    return listed[index]


def _plain(found: np.ndarray, normalised: bool) -> np.ndarray:
    """Whole numbers as int64, or as floats in [-1, 1] where they are normalised; floats as float64."""
    if found.dtype.kind == "f" or not normalised:
        return found.astype(np.float64 if found.dtype.kind == "f" else np.int64)
    return np.maximum(found / float(np.iinfo(found.dtype).max), -1.0)
