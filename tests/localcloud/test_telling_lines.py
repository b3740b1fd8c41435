from __future__ import annotations

from shardmill.localcloud.telling_lines import MAX_CHARACTERS, telling_lines

DRIVER = """loading
Traceback (most recent call last):
  File "/srv/job.py", line 12, in <module>
    main()
py4j.protocol.Py4JJavaError: An error occurred while calling z:PythonRDD.collectAndServe.
: org.apache.spark.SparkException: Job aborted due to stage failure
Caused by: org.apache.spark.api.python.PythonException: Traceback (most recent call last):
  File "/srv/job.py", line 9, in train
    raise ValueError("no label matches a video")
ValueError: no label matches a video
\tat org.apache.spark.api.python.BasePythonRunner.run(PythonRunner.scala:572)
\tat java.base/java.lang.Thread.run(Unknown Source)
"""
SPARK = "26/11/21 01:29:42 INFO SparkContext: Starting job\n26/11/21 01:29:43 ERROR Executor: lost\n"


def test_the_python_exception_comes_first() -> None:
    lines = telling_lines(DRIVER, SPARK).splitlines()
    assert lines[0] == "ValueError: no label matches a video"
    assert any("job.py" in line for line in lines)


def test_java_frames_and_log_lines_are_left_out() -> None:
    text = telling_lines(DRIVER, SPARK)
    assert "Thread.run" not in text
    assert "INFO SparkContext" not in text
    assert "ERROR Executor: lost" in text


def test_a_complaint_of_spark_alone_is_taken_from_stderr() -> None:
    stderr = 'Exception in thread "main" java.io.IOException: Cannot run program "python9"\n'
    assert "Cannot run program" in telling_lines("", stderr)


def test_it_is_short_and_never_empty() -> None:
    assert telling_lines("", "") == "The job wrote nothing."
    assert len(telling_lines("x" * 100_000 + "\n" + "y\n" * 10_000, "z\n" * 10_000)) <= MAX_CHARACTERS
