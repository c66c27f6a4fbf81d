"""What a policy that the screen found reaches at the costs of each published method, by the ground truth.

Run: python benchmarks/ground_truth/at_equal_costs.py

The policies found-DATA-rpi4@METHOD have the highest tangent score, by images of that data set, at no more peak memory
and no more step time than the method on a Raspberry Pi 4. Nothing was fine-tuned to find them. The accuracies are those
of the test split after full fine-tuning, each at the best of three rates and over two seeds. Behind +- is the standard
error of the difference as if the two were measured on other images, which is more than it is.
"""

import math

import tinysearch as ts


def main() -> None:
    """Print a line for each method of each cell."""
    for cell in ts.ground_truth().cells:
        accuracy = {name: value for names, value in zip(cell.names, cell.accuracy, strict=True) for name in names}
        error = {name: value for names, value in zip(cell.names, cell.accuracy_se, strict=True) for name in names}
        dataset = cell.name.partition("-")[0]
        print(f"{cell.name}: published, found at its costs, difference in points")
        for method in accuracy:
            found = f"found-{dataset}-rpi4@{method}"
            if found in accuracy:
                gain = 100 * (accuracy[found] - accuracy[method])
                sure = 100 * math.hypot(error[found], error[method])
                print(f"  {method:16} {accuracy[method]:.3f}  {accuracy[found]:.3f}  {gain:+5.1f} +- {sure:.1f}")


if __name__ == "__main__":
    main()
