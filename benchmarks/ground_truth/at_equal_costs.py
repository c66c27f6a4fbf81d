"""What a policy that the screen found reaches at the costs of each published method, by the ground truth.

Run: python benchmarks/ground_truth/at_equal_costs.py

The policies found-DATA-rpi4@METHOD have the highest tangent score, by images of that data set, at no more peak memory
and no more step time than the method on a Raspberry Pi 4. Nothing was fine-tuned to find them. The accuracies are those
of the test split after full fine-tuning, each at the best of the cell's rates and over three seeds. Behind +- is the
standard error of the difference as if the two were measured on other images, which is more than it is. Behind that are
the differences seed by seed, and the best rates of both.
"""

import math

import tinysearch as ts


def main() -> None:
    """Print a line for each method of each cell."""
    for cell in ts.ground_truth().cells:
        places = {name: place for place, names in enumerate(cell.names) for name in names}
        dataset = cell.name.partition("-")[0]
        rates = ", ".join(f"{rate:g}" for rate in cell.learning_rates)
        print(f"{cell.name}: published, found at its costs, difference in points, by seed, rates of {rates}")
        for method, published in places.items():
            if f"found-{dataset}-rpi4@{method}" not in places:
                continue
            both = [published, places[f"found-{dataset}-rpi4@{method}"]]
            old, new = cell.accuracy[both]
            sure = 100 * math.hypot(*cell.accuracy_se[both])
            seeds = " ".join(f"{100 * (after - before):+5.1f}" for before, after in cell.by_seed[both].T)
            best = " ".join(f"{rate:g}" for rate in cell.best_rate[both])
            print(f"  {method:16} {old:.3f}  {new:.3f}  {100 * (new - old):+5.1f} +- {sure:.1f}   {seeds}   {best}")


if __name__ == "__main__":
    main()
