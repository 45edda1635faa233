"""The house: a module imports only from floors below its own."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "descnet3d"
FLOORS = [
    {
        "arguments",
        "files",
        "numpy_files",
        "backend",
        "networks",
        "generators",
        "recipes",
        "console",
        "corruptions",
        "constraints",
        "grid_transform",
        "off_files",
        "preset_config",
        "poses",
        "processes",
        "downloads",
        "rasterization",
        "zips",
    },
    {
        "set_scores",
        "voxels",
        "langevin",
        "chains",
        "batches",
        "metrics",
        "preset_folder",
        "preset_files",
        "checkpoints",
        "tasks",
    }
    | {"latents"}
    | {"mesh_files", "matlab_files", "solids"},
    {"grids", "meshes", "fitting", "models.pretraining", "models.sampling", "cards", "blocks"}
    | {"preset_cache", "zoo_index"},
    {"rendering", "models.shape_model", "voxelization", "shape_folders"}
    | {"preset_addresses", "publishing"},
    {"view", "models.energy_based", "models.autoencoder", "models.saved_model"}
    | {"folder_archives", "voxel_builder", "zoos"},
    {"models.descriptor", "models.classifier"},
    {"models.cooperative", "models.voxel_classifier", "callbacks"},
    {"presets", "latent_sheets", "evaluation", "training", "reconstruction", "classification"}
    | {
        "datasets.modelnet_voxels.modelnet_voxels_dataset_builder",
        "datasets.voxel_folder.voxel_folder_dataset_builder",
    },
    {"landing", "paper_tables", "finetuning", "shape_sources", "voxelize_command", "outputs"},
    {"reconstruction_commands", "latent_commands", "presets_command", "data_flags"},
    {"finetune_command"},
    {"cli"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS, 1) for name in names}


def imported(path):
    """The package's modules that a file imports outside `if TYPE_CHECKING`."""
    found = set()
    tree = ast.parse(path.read_text())
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("descnet3d"):
            base = node.module.removeprefix("descnet3d").lstrip(".")
            names = [f"{base}.{alias.name}".lstrip(".") for alias in node.names]
            found |= {base} if base in FLOOR else {name for name in names if name in FLOOR}
        elif isinstance(node, ast.Import):
            names = (alias.name.removeprefix("descnet3d.") for alias in node.names)
            found |= {name for name in names if name in FLOOR}
    return found


def test_every_module_has_a_floor():
    modules = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    }
    assert modules == set(FLOOR)


@pytest.mark.parametrize("module", sorted(FLOOR))
def test_a_module_imports_only_from_floors_below(module):
    path = PACKAGE.joinpath(*module.split(".")).with_suffix(".py")
    for other in imported(path):
        assert FLOOR[other] < FLOOR[module], (
            f"{module} (floor {FLOOR[module]}) imports {other} (floor {FLOOR[other]})"
        )
