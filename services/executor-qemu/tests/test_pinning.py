from qemu_definitions import partition

from openqrm.executor_qemu.pinning import cpu_map, pin_problems


def test_pins_that_fit() -> None:
    assert pin_problems(partition(cpu_pins={0: (0, 1), 3: (1,)}), cpus=2) == ()


def test_each_problem_names_its_limit() -> None:
    problems = pin_problems(partition(cpu_pins={0: (0, 7), 9: (1,)}), cpus=2)
    assert [(problem.field, problem.limit) for problem in problems] == [("cpu_pins.0", "1"), ("cpu_pins.9", "3")]


def test_maps() -> None:
    assert cpu_map((1,), 3) == (False, True, False)
    assert cpu_map(None, 2) == (True, True)
    assert cpu_map((), 2) == (True, True)
