/** Small pieces that views are made of. */
import type { ComponentChildren, JSX } from 'preact';

export function PageHead(props: {
  readonly title: string;
  readonly note?: ComponentChildren;
  readonly children?: ComponentChildren;
}): JSX.Element {
  return (
    <div class="page-head">
      <div>
        <h1>{props.title}</h1>
        {props.note !== undefined && <p class="note">{props.note}</p>}
      </div>
      {props.children !== undefined && <div class="page-tools">{props.children}</div>}
    </div>
  );
}

export function Loading({ what }: { readonly what: string }): JSX.Element {
  return (
    <p class="loading" role="status">
      Loading {what}…
    </p>
  );
}

export function Trouble({ text, onRetry }: { readonly text: string; readonly onRetry: () => void }): JSX.Element {
  return (
    <div class="trouble" role="alert">
      <p>{text}</p>
      <button type="button" class="button small" onClick={onRetry}>
        Try again
      </button>
    </div>
  );
}

export function Empty({
  title,
  children,
}: {
  readonly title: string;
  readonly children?: ComponentChildren;
}): JSX.Element {
  return (
    <div class="empty">
      <h2>{title}</h2>
      {children}
    </div>
  );
}

export interface SparkProps {
  readonly values: readonly number[];
  readonly label: string;
  readonly height?: number;
}

const BAR_WIDTH = 4;

/** Bars over equal slices of time, scaled to the highest. Told as text by `label`. */
export function Bars({ values, label, height = 48 }: SparkProps): JSX.Element {
  const highest = Math.max(1, ...values);
  return (
    <svg
      class="bars"
      viewBox={`0 0 ${Math.max(1, values.length) * BAR_WIDTH} ${height}`}
      preserveAspectRatio="none"
      role="img"
      aria-label={label}
    >
      <path d={`M0 ${height - 0.5}H${values.length * BAR_WIDTH}`} class="bars-base" />
      <path
        class="bars-body"
        d={values
          .map((value, index) => {
            if (value <= 0) return '';
            const tall = Math.max(1.5, (value / highest) * (height - 2));
            return `M${index * BAR_WIDTH} ${height}v${-tall}h${BAR_WIDTH - 1}v${tall}z`;
          })
          .join('')}
      />
    </svg>
  );
}

/** A share of a whole, 0 to 1. */
export function Meter({ share, label }: { readonly share: number; readonly label: string }): JSX.Element {
  const percent = Math.min(100, Math.max(0, share * 100));
  return (
    <div
      class={percent >= 90 ? 'meter meter-full' : 'meter'}
      role="meter"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(percent)}
    >
      <div style={{ width: `${percent === 0 ? 0 : Math.max(1, percent)}%` }} />
    </div>
  );
}
