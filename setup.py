"""Package metadata of aocr."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
ABOUT: dict[str, str] = {}
for line in (HERE / "aocr" / "__init__.py").read_text(encoding="utf-8").splitlines():
    if line.startswith("__version__"):
        ABOUT["version"] = line.split('"')[1]

SERVE = [
    "tensorflow-serving-api>=2.20,<3",  # messages of both endpoints and of warm-up requests
    "grpcio>=1.60,<2",  # the gRPC endpoint
    "starlette>=0.40,<2",  # routes of the REST endpoint
    "uvicorn>=0.30,<1",  # its HTTP server
    "httptools>=0.6,<1",  # the parser of uvicorn
    "prometheus-client>=0.20,<1",  # metrics
]

ONNX = [
    "onnxruntime>=1.20,<2",  # runs ONNX models
    "tf2onnx>=1.17,<2",  # writes them; earlier versions need a protobuf that TensorFlow does not
    "onnx>=1.17,<2",  # their format
]

LITE = [
    "ai-edge-litert>=2.1,<3",  # checks LiteRT models, which TensorFlow writes
]

setup(
    name="aocr",
    version=ABOUT["version"],
    description="Attention OCR for cropped words and lines: train, test, visualize, export, serve",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=find_packages(include=["aocr", "aocr.*"]),
    package_data={"aocr": ["py.typed", "pretrained/*/*"], "aocr.evaluation": ["html/*"],
                  "aocr.serving": ["page/*"]},
    install_requires=[
        "tensorflow>=2.20,<3",  # network, records, SavedModel
        "numpy>=1.26,<3",
        "pillow>=12,<14",  # formats that TensorFlow cannot decode; 12 applies XMP orientation
        "distance>=0.1.3,<1",  # Levenshtein distance, as in aocr 0.7
        "six>=1.16,<2",  # text and bytes of record features
        "tqdm>=4.66,<5",  # progress bars with the remaining time
        "rapidfuzz>=3.6,<4",  # aligns predictions with labels; `distance` gives only the number
        "rich>=13,<16",  # tables on a terminal; Keras needs it, too
        # Fills in the report. Not an extra, because it is small, and a missing one would be noticed
        # only after the images have been read.
        "jinja2>=3.1,<4",
    ],
    extras_require={
        "serve": SERVE,
        "onnx": ONNX,
        "lite": LITE,
        "test": [*SERVE, *ONNX, *LITE,
                 "pytest>=8,<10", "pytest-xdist>=3.6,<4", "hypothesis>=6.100,<7",
                 "ruff>=0.8,<1", "mypy>=1.13,<3", "types-six",
                 "opencv-python-headless>=4.10,<6",  # tests of datasets/drawn
                 "fonttools>=4.55,<5",  # the same
                 "playwright>=1.50,<2"],  # drives Chromium, in which tests open pages
    },
    entry_points={"console_scripts": ["aocr = aocr.__main__:main"]},
    classifiers=[
        "License :: OSI Approved :: MIT License",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
