"""Packaging: the library, with the YAML of `search_spaces/` and `recipes/` installed as packages of data beside it."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = next(
    line.split('"')[1] for line in (HERE / "nasdistill/__init__.py").read_text().splitlines() if "__version__" in line
)

setup(
    name="nasdistill",
    version=VERSION,
    description="Find a small network, grow the teacher that suits it, distil the teacher back into it",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
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
        "nasdistill.tuning": ["*.js"],
        "nasdistill.search_spaces": ["*.yaml"],
        "nasdistill.library": ["*.yaml"],
    },
    install_requires=[
        "torch>=2.6",
        "torchvision>=0.21",
        "lightning>=2.6.6",  # two earlier 2.6 releases were hijacked
        'nni>=3.0; platform_machine == "x86_64" or platform_machine == "AMD64"',
        "setuptools<81",  # nni reads pkg_resources, which 81 dropped
        "numpy",
        "networkx",
        "tensorboard",
        "matplotlib",
        "pydantic>=2.6",
        "typer>=0.20",
        "rich",
        "safetensors>=0.4.3",
        "scikit-learn",
        "scipy",
        "pillow",
        "filelock",
        "jinja2",
        "pyyaml",
        "onnx",
        "onnxruntime",
        "onnxscript",
    ],
    extras_require={
        "test": [
            *("pytest", "pytest-timeout", "pytest-xdist", "hypothesis"),
            *("ruff", "mypy", "import-linter", "types-PyYAML"),
        ],
        "docs": ["sphinx", "myst-parser", "furo"],
        "bench": ["torchdistill==1.1.5"],
    },
    entry_points={"console_scripts": ["nasdistill=nasdistill.cli.main:main"]},
)
